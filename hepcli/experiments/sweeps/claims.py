"""Who works on which point: an append-only journal for each, every entry made by an exclusive create.

A point's journal is a folder of numbered entries; the last one is its state. An entry can only be added
behind the last one that its writer has read, because the file of that number must not exist yet: of two
processes that both want a point, or both judge its owner dead, exactly one succeeds. A claim lives as long
as its file's modification time is refreshed. Nothing is ever renamed or deleted.
"""

import itertools
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from hepcli.errors import OutputError
from hepcli.files import create, write_failure

HEARTBEAT_S = 5.0
EXPIRES_S = 60.0
ATTEMPTS = 2
MOST_DEATHS = 3

_ENTRY = re.compile(r"[0-9]{6,}\.json")

CLAIMED, RELEASED, FAILED, RETRY, DONE = "claimed", "released", "failed", "retry", "done"
PRUNED = "pruned"
ENDED = (DONE, FAILED, PRUNED)
_STATES = (CLAIMED, RELEASED, FAILED, RETRY, DONE, PRUNED)


class Entry(NamedTuple):
    """One entry of a journal; `state` is empty where its writer died in the middle, or it is damaged."""

    number: int
    state: str
    record: dict[str, Any]
    file: Path


class Journal:
    """The journal of one point.

    Args:
        folder: where its entries lie; made with the first one, in the folder of all journals, which is made,
            too, but nothing above it: a sweep that was moved must not come back.
        expires_s: seconds without a heartbeat after which a claim is void.
    """

    def __init__(self, folder: Path, expires_s: float = EXPIRES_S) -> None:
        self.folder = folder
        self._expires_s = expires_s

    def entries(self) -> list[Entry]:
        """All entries in order; none where nothing has happened yet."""
        with suppress(FileNotFoundError):
            return [self._read(name) for name in sorted(self._names(), key=_number)]
        return []

    def latest(self) -> Entry | None:
        """The last entry: the state of the point."""
        with suppress(FileNotFoundError):
            names = self._names()
            return self._read(max(names, key=_number)) if names else None
        return None

    def failures(self) -> list[dict[str, Any]]:
        """The failed attempts since the last retry was asked for."""
        failed: list[dict[str, Any]] = []
        for entry in self.entries():
            failed = [] if entry.state == RETRY else failed
            if entry.state == FAILED:
                failed.append(entry.record)
        return failed

    def error(self) -> str:
        """Why the last attempt failed, in words."""
        last = self.failures()[-1:]
        return " ".join(str(last[0][key]) for key in ("what", "advice") if key in last[0]) if last else ""

    def state(self) -> str:
        """`waiting`, `running`, `done`, `pruned` or `failed` (for good)."""
        last = self.latest()
        if last is None or last.state in (RELEASED, RETRY):
            return "waiting"
        if last.state in (DONE, PRUNED):
            return last.state
        if last.state == FAILED:
            for_good = bool(last.record.get("for_good"))
            return "failed" if for_good or len(self.failures()) >= ATTEMPTS else "waiting"
        return "waiting" if self._expired(last) else "running"

    def damaged(self) -> Path | None:
        """The last entry where it is damaged or was cut short, so that it tells nothing."""
        last = self.latest()
        return None if last is None or last.state in _STATES else last.file

    def claim(self, step: int | None = None) -> "Claim | None":
        """Claim the point; None where it is done, failed for good, or another's.

        A point on which process after process has died without getting any further fails for good.

        Args:
            step: that its run has come to; None where there is no run that could kill a process.
        """
        last = self.latest()
        if self.state() != "waiting":
            return None
        number = 1 if last is None else last.number + 1
        if step is not None and self._deaths(step) >= MOST_DEATHS:
            what = f"{MOST_DEATHS} processes in a row died while running this point, at step {step}."
            advice = "There may be too little memory; see the logs folder of the sweep."
            self.append(number, FAILED, {"what": what, "advice": advice, "for_good": True})
            return None
        if not self.append(number, CLAIMED, owner() | ({} if step is None else {"step": step})):
            return None
        return Claim(self, number)

    def _deaths(self, step: int) -> int:
        """How many claims at that step were the last ones, and never settled."""
        dead = itertools.takewhile(
            lambda entry: entry.state == CLAIMED and entry.record.get("step") == step,
            reversed(self.entries()),
        )
        return sum(1 for _ in dead)

    def retry(self, *, is_lost: bool = False) -> None:
        """Give new attempts to a point that failed, whose last process died, or whose run `is_lost`."""
        last = self.latest()
        if last is None:
            return
        is_dead = last.state == CLAIMED and self._expired(last)
        if last.state == FAILED or is_dead or (is_lost and last.state == DONE):
            self.append(last.number + 1, RETRY, {})

    def append(self, number: int, state: str, record: Mapping[str, Any]) -> bool:
        """Add the entry of that number.

        Returns:
            Whether it was added; False where another process has added one of that number.

        Raises:
            OutputError: the folder cannot be written.
        """
        text = json.dumps({"state": state, "at": time.strftime("%Y-%m-%d %H:%M:%S"), **record}, indent=1)
        entry = self.folder / _name(number)
        try:
            self.folder.parent.mkdir(exist_ok=True)
            self.folder.mkdir(exist_ok=True)
            return create(entry, text)
        except OSError as error:
            raise OutputError(
                f"{self.folder} cannot be written to: {write_failure(self.folder, error)}.",
                "Free disk space or make the folder writable, then run the same command again.",
            ) from error

    def is_latest(self, number: int) -> bool:
        """Whether no entry has followed that one."""
        return not (self.folder / _name(number + 1)).exists()

    def _names(self) -> list[str]:
        """The files of entries; what a file browser or another system adds is none."""
        return [name for name in os.listdir(self.folder) if _ENTRY.fullmatch(name)]

    def _read(self, name: str) -> Entry:
        file = self.folder / name
        record: object = None
        with suppress(ValueError, RecursionError):  # cut short, or damaged
            record = json.loads(file.read_bytes())
        if not isinstance(record, dict) or not isinstance(record.get("state"), str):
            record = {"state": ""}
        return Entry(_number(name), record["state"], record, file)

    def _expired(self, entry: Entry) -> bool:
        """Whether a claim's owner is dead: its process here is gone, or it sent no heartbeat for long."""
        pid = entry.record.get("pid")
        if entry.record.get("host") == _host() and isinstance(pid, int) and not _is_alive(pid):
            return True
        # A claim from the future is void as well: a clock that was ahead has been set right since.
        return abs(self._now() - entry.file.stat().st_mtime) > self._expires_s

    def _now(self) -> float:
        """The time by the clock that dates the files, which may not be this machine's."""
        probe = self.folder / ".now"
        with suppress(OSError):
            probe.touch()
            return probe.stat().st_mtime
        return time.time()


class Claim:
    """A claim that is ours until it is settled, or lost because the heart stood still.

    Args:
        journal: the journal of the point.
        number: of the entry that claims it.
    """

    def __init__(self, journal: Journal, number: int) -> None:
        self.journal, self.number = journal, number

    @property
    def lost(self) -> bool:
        """Whether another process has taken over."""
        return not self.journal.is_latest(self.number)

    def beat(self) -> None:
        """Refresh the claim."""
        with suppress(OSError):
            os.utime(self.journal.folder / _name(self.number))

    def settle(self, state: str, **record: Any) -> bool:
        """End the claim with a state; False where it was lost before."""
        return self.journal.append(self.number + 1, state, record)


class Heart:
    """Refreshes claims from a thread while they are worked on.

    Args:
        claims: what to refresh.
        every_s: seconds between two beats.
    """

    def __init__(self, claims: list[Claim], every_s: float = HEARTBEAT_S) -> None:
        self._claims, self._every_s = claims, every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            for claim in self._claims:
                claim.beat()


def owner() -> dict[str, Any]:
    """Who this process is."""
    return {"host": _host(), "pid": os.getpid(), "token": secrets.token_hex(8)}


def _name(number: int) -> str:
    return f"{number:06d}.json"


def _number(name: str) -> int:
    return int(name.removesuffix(".json"))


def _host() -> str:
    """The machine, since its start, as far as process numbers reach: containers have their own."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another's, or no number of a process here
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """A killed worker whose parent has not noticed yet."""
    with suppress(OSError):
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return status.rpartition(")")[2].split()[0] == "Z"
    return False
