"""Commands as a user gives them, each in a process of its own that can be stopped at a chosen moment."""

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

TIMEOUT_S = 120.0
_POLL_S = 0.01


class FaultError(AssertionError):
    """A command did what it must not do."""


def require(condition: object, message: str) -> None:
    """Raise a fault unless the condition holds."""
    if not condition:
        raise FaultError(message)


class Done(NamedTuple):
    """What came of a command; `status` is negative where a signal ended it."""

    argv: tuple[str, ...]
    status: int
    output: str
    errors: str

    @property
    def line(self) -> str:
        """The command line, ready to be pasted."""
        return shlex.join(["hep", *self.argv])

    def advised(self) -> tuple[str, ...] | None:
        """The arguments of the command that the output says goes on; None where there is none."""
        found = re.search(
            r"with: hep (.*?)(?:   or .*)?$|: (hep train --resume .*?)$", self.errors, re.MULTILINE
        )
        if found is None:
            return None
        return tuple(shlex.split((found[1] or found[2]).removeprefix("hep ")))


class Started:
    """A command under way, in a session of its own.

    Args:
        argv: its arguments.
        pid: its process.
        poll: tells its exit status; None while it goes on.
        pipes: descriptors that its stdout and stderr can be read from.
    """

    def __init__(
        self, argv: Sequence[str], pid: int, poll: Callable[[], int | None], pipes: Sequence[int]
    ) -> None:
        self.argv, self.pid, self._poll = tuple(argv), pid, poll
        self._texts = [b"", b""]
        self._readers = [threading.Thread(target=self._read, args=item) for item in enumerate(pipes)]
        for reader in self._readers:
            reader.start()

    def _read(self, index: int, pipe: int) -> None:
        with open(pipe, "rb") as file:
            self._texts[index] = file.read()

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.status is not None

    @property
    def status(self) -> int | None:
        """Its exit status; None while it goes on."""
        if not hasattr(self, "_status") and (status := self._poll()) is not None:
            self._status = status
        return getattr(self, "_status", None)

    def send(self, number: int, *, tree: bool = False) -> None:
        """Send a signal to it, or to it and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            if not self.is_over:
                (os.killpg if tree else os.kill)(self.pid, number)

    def wait_until(self, reached: Callable[[], bool]) -> None:
        """Wait for something, or for its end."""
        while not self.is_over and not reached():
            time.sleep(_POLL_S / 5)

    def finish(self, timeout_s: float = TIMEOUT_S) -> Done:
        """Wait for its end, and for that of all that it started.

        Raises:
            FaultError: it goes on and on.
        """
        deadline = time.monotonic() + timeout_s
        while not self.is_over or self._leaves_processes():
            if time.monotonic() > deadline:
                what = "leaves processes behind" if self.is_over else f"goes on after {timeout_s:.0f} s"
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
                raise FaultError(f"{shlex.join(['hep', *self.argv])} {what}")
            time.sleep(_POLL_S)
        for reader in self._readers:
            reader.join()
        output, errors = (text.decode("utf-8", "replace") for text in self._texts)
        return Done(self.argv, self.status or 0, output, errors)

    def _leaves_processes(self) -> bool:
        try:
            os.killpg(self.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True


class Commands:
    """Starts commands; most from a server that has imported everything, so that they begin at once.

    Args:
        folder: what they run in.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.history: list[Done] = []

    def __enter__(self) -> Self:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-P", str(Path(__file__).with_name("server.py")), str(other.fileno())]
        # Its stdout is a pipe, like those of the commands: a stream that was a file at first would seek.
        self._server = subprocess.Popen(
            command, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        other.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._server.communicate()

    def start(self, *argv: object, trigger: dict[str, Any] | None = None, fresh: bool = False) -> Started:
        """Start a command.

        Args:
            argv: its arguments.
            trigger: of the server, what is to happen at which use of a file.
            fresh: start Python anew, as a shell does; no trigger then.
        """
        texts = [str(argument) for argument in argv]
        (output, output_end), (errors, errors_end) = os.pipe(), os.pipe()
        try:
            if fresh:
                process = subprocess.Popen(
                    [sys.executable, "-m", "hepcli", *texts], cwd=self.folder, stdin=subprocess.DEVNULL,
                    stdout=output_end, stderr=errors_end, start_new_session=True,
                )  # fmt: skip
                return Started(texts, process.pid, process.poll, (output, errors))
            request = {"argv": texts, "folder": str(self.folder), "trigger": trigger}
            socket.send_fds(self._socket, [json.dumps(request).encode()], [output_end, errors_end])
            pid = json.loads(self._socket.recv(100))
            return Started(texts, pid, lambda: self._ask(pid), (output, errors))
        finally:
            os.close(output_end)
            os.close(errors_end)

    def _ask(self, pid: int) -> int | None:
        self._socket.send(json.dumps({"poll": pid}).encode())
        answer: int | None = json.loads(self._socket.recv(100))
        return answer

    def finish(self, started: Started) -> Done:
        """Wait for a command; none may show a traceback.

        Raises:
            FaultError: it does, or goes on and on.
        """
        done = started.finish()
        self.history.append(done)
        require("Traceback" not in done.errors, f"a traceback: {done.errors.strip()[-1500:]}")
        return done

    def hep(self, *argv: object, trigger: dict[str, Any] | None = None) -> Done:
        """Start a command and wait for it; raises as `finish`."""
        return self.finish(self.start(*argv, trigger=trigger))

    def succeed(self, *argv: object) -> Done:
        """Give a command that must succeed.

        Raises:
            FaultError: it does not.
        """
        done = self.hep(*argv)
        require(done.status == 0, f"status {done.status}: {done.errors.strip()[-600:]}")
        return done

    def lead_on(self, command: Sequence[object], first: Sequence[object] | None = None) -> Done:
        """Give `first`, or the command again, and follow what is printed until the work is finished.

        Raises:
            FaultError: what is printed leads nowhere.
        """
        argv: Sequence[object] = command if first is None else first
        for _ in range(3):
            done = self.hep(*argv)
            if done.status == 0:
                return done
            advised = done.advised()
            argv = command if advised is None and "leave out --resume" in done.errors else advised or ()
            if not argv:
                break
        raise FaultError(f"leads nowhere, status {done.status}: {done.errors.strip()[-600:]}")
