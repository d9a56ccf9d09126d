"""The folder of a run: what lies in it, who may write to it, and how it is written."""

import fcntl
import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from hepcli.checkpoints import CHECKPOINTS_FOLDER, CONFIG_FILE, CheckpointStore
from hepcli.code import CODE_FOLDER, source_of
from hepcli.config import (
    SWEEP_FILE,
    ResolvedConfig,
    changed_config,
    differences,
    dump_config,
    read_config,
    read_text,
)
from hepcli.errors import FolderBusyError, OutputError
from hepcli.experiments.records import newer_line
from hepcli.experiments.run_files import (
    INIT_FILE,
    METRICS_FILE,
    SUMMARY_FILE,
    TIMING_FILE,
    check_foreign,
    damaged,
    line_of,
    read_json,
    read_lines,
)
from hepcli.files import clear_temporaries, replacing, write_failure

_LOCK_FILE = ".lock"


class RunFolder:
    """Paths and writing of a run folder.

    metrics.jsonl holds only what the configuration determines, so that two runs of it can be compared
    byte for byte; what depends on the machine and the hour goes to timing.jsonl.

    Args:
        path: the folder.
        is_new: whether it is to be made, under that name or where there is one already with a number behind.

    Attributes:
        writes: whether this process writes; of several that train a run, only one does.
        notices: what the user should know of it.
    """

    def __init__(self, path: Path, *, is_new: bool = False) -> None:
        self.path = path
        self.writes = True
        self.notices: list[str] = []
        self._is_new = is_new
        self._lock: IO[str] | None = None

    @property
    def checkpoints(self) -> Path:
        """Where its steps are."""
        return self.path / CHECKPOINTS_FOLDER

    @property
    def holds_run(self) -> bool:
        """Whether a step was saved here: what was killed before that is no run, and begins again."""
        return bool(CheckpointStore(self.checkpoints).all_steps())

    @property
    def resume_command(self) -> str:
        """What continues the run, ready to be pasted."""
        return shlex.join(["hep", "train", "--resume", "--out", str(self.path)])

    def create(self, resolved: ResolvedConfig) -> None:
        """Begin a run in the folder, which is claimed, with its config.toml.

        Raises:
            OutputError: it holds a run already, or a file that is not ours to replace, or cannot be written.
        """
        if not self.writes:
            return
        if self.holds_run:
            raise OutputError(
                f"{self.path} already contains a run.",
                f"Choose another --out, or continue it with: {self.resume_command}",
            )
        if (self.path / SWEEP_FILE).is_file():
            raise OutputError(f"{self.path} contains a sweep.", "Choose another --out.")
        with self.writing():
            check_foreign(self.path)
            for name in (METRICS_FILE, TIMING_FILE, INIT_FILE):
                (self.path / name).unlink(missing_ok=True)
        self.write_code(resolved.config.code.files)
        self.write_config(resolved)

    def write_code(self, names: Sequence[str]) -> None:
        """Keep copies of loaded files with own components."""
        if not names or not self.writes:
            return
        with self.writing():
            folder = self.path / CODE_FOLDER
            folder.mkdir(exist_ok=True)
            for name in names:
                with replacing(folder / name) as temporary:
                    temporary.write_bytes(source_of(name))

    def write_config(self, resolved: ResolvedConfig) -> None:
        """Write config.toml: every value, with where it came from."""
        with self.writing():
            self.write_text(CONFIG_FILE, dump_config(resolved))

    def change_config(self, resolved: ResolvedConfig) -> None:
        """Write into config.toml what differs from it; all other values keep where they came from."""
        file = self.path / CONFIG_FILE
        changed = {key: new for key, _, new in differences(read_config(file), resolved.config)}
        if changed:
            with self.writing():
                self.write_text(CONFIG_FILE, changed_config(read_text(file), changed, resolved.sources))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn the system's errors of writing here into one of ours.

        Raises:
            OutputError: the disk is full, the folder is not writable, …; or it is no longer the one that this
                process claimed.
        """
        self.check_claim()
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"{self.path} cannot be written to: {write_failure(self.path, error)}.",
                "Free disk space or make the folder writable, or choose another one with --out.",
            ) from error

    def check_claim(self) -> None:
        """Check that the folder of this name is still the one that was claimed.

        Raises:
            OutputError: it was moved, deleted or replaced, perhaps by another run.
        """
        if self._lock is None:
            return
        try:
            there = os.stat(self.path / _LOCK_FILE)
        except (FileNotFoundError, NotADirectoryError):
            there = None
        except OSError:
            return  # what cannot be asked now, such as of a network file system, is not gone
        if there is None or not os.path.samestat(there, os.fstat(self._lock.fileno())):
            raise OutputError(
                f"{self.path} was moved, deleted or replaced while this run was training in it.",
                "Nothing more was written. Continue from its last checkpoint where the folder is now: "
                "hep train --resume --out DIR",
            )

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Make the folder and hold it, so that no second process trains into it; released also by a crash.

        Raises:
            FolderBusyError: another process holds it.
            OutputError: it cannot be written.
        """
        if not self.writes:
            yield
            return
        with self.writing():
            self._make()
        with self.writing():
            flags = (
                os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK
            )  # a named pipe of that name would wait for a reader
            handle = os.fdopen(os.open(self.path / _LOCK_FILE, flags, 0o666), "a")
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise FolderBusyError(
                    f"Another process is already training in {self.path}.",
                    "Wait for it, or choose another --out.",
                ) from error
            except OSError as error:  # some network file systems have no locks
                self.notices.append(
                    f"{self.path} cannot be locked ({error.strerror}); make sure that only one process "
                    "trains there."
                )
            else:
                with self.writing():
                    clear_temporaries(self.path)
            self._lock = handle
            try:
                yield
            finally:
                self._lock = None

    def _make(self) -> None:
        """Make the folder; a new one alone, so that of several runs begun at once each gets its own."""
        self._make_parent()
        wanted, attempt = self.path, 1
        while True:
            try:
                self.path.mkdir(exist_ok=not self._is_new)
            except FileExistsError:
                if not self._is_new:
                    raise
                attempt += 1
                self.path = wanted.with_name(f"{wanted.name}-{attempt}")
            else:
                return

    def _make_parent(self) -> None:
        parent = self.path.parent
        if parent.is_symlink() and not parent.exists():
            raise OutputError(
                f"{parent} is a link to {os.readlink(parent)}, which does not exist.",
                "Mount or create that folder, or choose another one with --out.",
            )
        parent.mkdir(parents=True, exist_ok=True)

    def write_text(self, name: str, text: str) -> None:
        """Replace a file as a whole, so that a reader or a crash never meets half of it."""
        if not self.writes:
            return
        with replacing(self.path / name) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def write_json(self, name: str, record: Mapping[str, Any]) -> None:
        """Replace a JSON file as a whole."""
        with self.writing():
            self.write_text(name, json.dumps(record, indent=2, allow_nan=False) + "\n")

    def append_line(self, name: str, record: Mapping[str, Any]) -> None:
        """Add a line to a JSON Lines file."""
        if self.writes:
            with self.writing(), (self.path / name).open("a", encoding="utf-8") as file:
                file.write(line_of(record))
                file.flush()
                os.fsync(file.fileno())  # where a summary survives a power failure, so does every epoch

    def rewrite_lines(self, name: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Replace a JSON Lines file: after a resume, the lines up to the checkpoint."""
        with self.writing():
            self.write_text(name, "".join(line_of(record) for record in records))

    def read_lines(self, name: str) -> list[dict[str, Any]]:
        """The whole lines of a JSON Lines file; a torn last line is left out, no file is no line.

        Raises:
            OutputError: a line is damaged.
        """
        return read_lines(self.path / name, self._how_to_mend)

    @property
    def _how_to_mend(self) -> str:
        return f"To recreate it from the newest checkpoint, run: {self.resume_command}"

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; raises as `read_lines`."""
        lines = self.read_lines(METRICS_FILE)
        for number, line in enumerate(lines, 1):
            if type(line.get("epoch")) is not int or not all(
                isinstance(line.get(split, {}), dict) for split in ("train", "test")
            ):
                raise damaged(self.path / METRICS_FILE, number, self._how_to_mend)
        return [newer_line(line) for line in lines]

    def read_summary(self) -> dict[str, Any] | None:
        """The summary of a finished run; None where there is none.

        Raises:
            OutputError: it is damaged.
        """
        return read_json(self.path / SUMMARY_FILE, f"To recreate it, run: {self.resume_command}")

    def read_init(self) -> dict[str, Any] | None:
        """What the run began with; None where it began with weights of its own.

        Raises:
            OutputError: it is damaged.
        """
        return read_json(self.path / INIT_FILE, "Delete it; only summary.json uses its content.")


def other_examples(run: Path, dataset: str) -> str:
    """What is wrong where the data set of a run's name is no longer the one it was trained on."""
    return f"{run} was trained on other examples than the data set {dataset} now contains."
