"""Save and restore training states with Orbax, so that damage is noticed and never loaded."""

import json
import math
import shlex
from collections.abc import Container, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock
from types import MappingProxyType, TracebackType
from typing import Any, Self
from weakref import WeakSet

import numpy as np

from hepcli.checkpoints._arrays import system_reason
from hepcli.checkpoints._manifest import FORMAT, DamagedError, UnreadableError
from hepcli.checkpoints._step_files import PyTree, Restored, named_leaves, read_step, words
from hepcli.checkpoints._step_folders import Kept, StepFolders
from hepcli.errors import CheckpointError, OutputError

_NO_STEP_ADVICE = "Restore the run folder from a copy, or train in a new one: hep train --out DIR"


def _lines(damaged: Mapping[int, str]) -> tuple[str, ...]:
    return tuple(f"Step {step} {damaged[step]}." for step in sorted(damaged, reverse=True))


_STORES: "WeakSet[CheckpointStore]" = WeakSet()
"""All of this process."""
_LOCK = Lock()
"""Of `_STORES`, for programs with several threads."""


class CheckpointStore:
    """The checkpoints of one run; only one process may save, any number may restore.

    Args:
        directory: the folder that holds the steps, made at the first save.
        keep_latest: how many of the newest steps to keep, at least 1.
        keep_best: how many of the steps with the highest metric to keep as well, of equal ones the earlier.
        keep_every_steps: keep all steps divisible by this as well; 0 for none.

    Raises:
        ValueError: when a number is too small.
    """

    def __init__(
        self, directory: Path, *, keep_latest: int = 2, keep_best: int = 1, keep_every_steps: int = 0
    ) -> None:
        if keep_latest < 1 or keep_best < 0 or keep_every_steps < 0:
            raise ValueError("keep_latest must be at least 1, keep_best and keep_every_steps at least 0")
        self._directory = directory.absolute()
        self._folders = StepFolders(self._directory)
        self._kept = Kept(keep_latest, keep_best, keep_every_steps)
        self._intact: dict[int, float | None] | None = None  # step to metric; None until the first save
        self._kept_as_they_are: dict[int, str] = {}  # steps that are damaged or cannot be read, and why
        self._restored: int | None = None
        self._writer: ThreadPoolExecutor | None = None
        self._pending: tuple[int, Future[None]] | None = None
        with _LOCK:
            _STORES.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except OutputError as failed:
            if error is None:
                raise
            error.add_note(str(failed))  # what ended the block matters more than the save that failed too

    def save(
        self,
        step: int,
        state: PyTree,
        metadata: Mapping[str, Any],
        metric: float | None,
        *,
        replace: bool = False,
    ) -> None:
        """Copy the state to the host and write it in the background; a step already saved is left alone.

        Args:
            step: the number of the step, 0 or more.
            state: the tree to save; its arrays may be donated as soon as this returns.
            metadata: anything JSON can hold.
            metric: decides the best step, higher is better; None or not finite: never the best.
            replace: save a step anew that is there; once the new one is written whole.

        Raises:
            OutputError: when the previous save failed; this one is tried all the same.
            ValueError: when the step is negative.
        """
        if step < 0:
            raise ValueError(f"step must be 0 or more, not {step}")
        try:
            self.wait()  # one copy of the state in memory at a time
        finally:
            self._begin(step, state, metadata, metric, replace=replace)

    def _begin(
        self, step: int, state: PyTree, metadata: Mapping[str, Any], metric: float | None, *, replace: bool
    ) -> None:
        """Copy the state, and have the writing thread save it."""
        if self._intact is not None and step in self._intact and not replace:
            return
        # A real copy: on CPU np.asarray would alias a buffer that the next step may overwrite by donation.
        leaves = {name: np.array(words(leaf)) for name, leaf in named_leaves(state).items()}
        finite = metric is not None and math.isfinite(metric)
        manifest = {
            "format": FORMAT,
            "step": step,
            "metric": float(metric) if metric is not None and finite else None,
            "metadata": json.loads(json.dumps(dict(metadata))),  # a snapshot: the caller may change its own
        }
        if self._writer is None:
            self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending = step, self._writer.submit(self._write_step, step, leaves, manifest, replace)

    def wait(self) -> None:
        """Wait until everything is on disk.

        Raises:
            OutputError: when the disk is full or the folder cannot be written; earlier steps are untouched.
        """
        if self._pending is None:
            return
        step, future = self._pending
        error = future.exception()
        self._pending = None
        if error is None:
            return
        reason = system_reason(error)
        if reason is None:
            raise error
        raise OutputError(
            f"Step {step} could not be saved in {self._directory}: {reason}.",
            "Free disk space or make the folder writable, then continue from the last saved step: "
            + shlex.join(["hep", "train", "--resume", "--out", str(self._directory.parent)]),
        ) from error

    def _wait_for_others(self) -> None:
        """Wait for what this process saves here by another store: a callback reads what its run writes."""
        with _LOCK:
            stores = list(_STORES)
        for other in stores:
            if other is not self and other._directory == self._directory and (pending := other._pending):
                pending[1].exception()  # which that store tells of

    def close(self) -> None:
        """Wait until everything is on disk and stop the writing thread.

        Raises:
            OutputError: as `wait` does.
        """
        try:
            self.wait()
        finally:
            if self._writer is not None:
                self._writer.shutdown()
                self._writer = None

    def steps(self) -> list[int]:
        """The numbers of the complete steps, ascending; sizes are checked, content only by `restore`.

        Raises:
            CheckpointError: the folder cannot be read, or a step was saved by a newer version.
            OutputError: as `wait` does.
        """
        self.wait()
        return self._folders.complete()

    def all_steps(self) -> list[int]:
        """The numbers of the steps that lie here, ascending, damaged ones included.

        Raises:
            CheckpointError: the folder cannot be read.
            OutputError: as `wait` does.
        """
        self.wait()
        return sorted(self._folders.present())

    def survey(self) -> tuple[str, ...]:
        """Clear what a killed process left behind, and read every byte of every step, before saving.

        Returns:
            One line for each step that is damaged or cannot be read, newest first: they are left as they are,
            and none of them is among the latest or the best.

        Raises:
            CheckpointError: the folder cannot be read, or a step was saved by a newer version.
            OutputError: as `wait` does.
        """
        self.wait()
        self._intact = self._surveyed()
        return _lines(self._kept_as_they_are)

    def restore(
        self,
        target: PyTree,
        step: int | None = None,
        *,
        whole: bool = True,
        older: Mapping[str, str | None] = MappingProxyType({}),
    ) -> Restored:
        """Read a step back, bit for bit; nothing is written, so the folder may be read-only.

        Args:
            target: a tree of arrays or `jax.ShapeDtypeStruct` that gives structure, shapes and dtypes.
            step: the step to read; None for the newest one that is intact. What is saved afterwards continues
                from there: later steps that lie here already are written anew.
            whole: whether what was saved must be all of the target; else other leaves are left unread.
            older: path of a leaf -> the path it may have been saved under instead, or None where it may be
                missing and is zero then.

        Returns:
            The state, with what was skipped to find it.

        Raises:
            CheckpointError: when no step is intact, the step is missing, of another network or saved by a
                newer version, or the system refuses to read it.
            OutputError: as `wait` does.
        """
        self.wait()
        self._wait_for_others()
        damaged = {} if step is not None else self._folders.unfinished()
        while (newest := self._newest(step, damaged)) is not None:
            number, folder = newest
            try:
                state, metadata = read_step(folder, target, whole, older)
            except UnreadableError as error:
                if not folder.is_dir():  # deleted, as below
                    continue
                raise CheckpointError(
                    f"Step {number} in {self._directory} cannot be read: {error}.",
                    "Make it readable; or move its folder elsewhere, to use an older step.",
                ) from error
            except DamagedError as error:
                if folder.is_dir():  # else a training process has deleted it meanwhile, and saved newer ones
                    damaged[number] = f"is damaged: {error}"
                continue
            skipped = {other: reason for other, reason in damaged.items() if other > number}
            self._restored, self._intact = number, None
            return Restored(number, state, metadata, _lines(skipped))
        result = " ".join(_lines(damaged)) or "It contains no checkpoint."
        advice = _NO_STEP_ADVICE if step is None else self._advice(step)
        raise CheckpointError(f"No intact checkpoint in {self._directory}. {result}", advice)

    def _newest(self, step: int | None, damaged: Container[int]) -> tuple[int, Path] | None:
        """The newest step, or that step, and its folder, unless it is known to be damaged."""
        folders = self._folders.present()
        if step is not None and step not in folders:
            raise CheckpointError(f"There is no step {step} in {self._directory}.", self._advice(step))
        number = max((n for n in folders if n not in damaged and step in (None, n)), default=None)
        return None if number is None else (number, folders[number])

    def _advice(self, excluded: int) -> str:
        """Name the other complete steps, or what to do without any."""
        others = ", ".join(str(step) for step in self.steps() if step != excluded)
        return f"Choose another step: {others}." if others else _NO_STEP_ADVICE

    def _write_step(
        self, step: int, leaves: dict[str, np.ndarray], manifest: dict[str, Any], replace: bool
    ) -> None:
        """Write one step, then delete what need not be kept."""
        # Later on, a folder that is missing was moved or deleted, and must not come back.
        self._directory.mkdir(parents=self._intact is None and self._restored is None, exist_ok=True)
        if self._intact is None:
            self._intact = self._surveyed()
        if step in self._intact and not replace:
            return
        self._folders.write(step, leaves, manifest)
        self._intact[step] = manifest["metric"]
        self._kept_as_they_are.pop(step, None)
        self._prune(step)

    def _surveyed(self) -> dict[int, float | None]:
        """Clear what a killed process left behind; return the intact steps with their metrics."""
        intact, self._kept_as_they_are = self._folders.survey()
        return {n: metric for n, metric in intact.items() if self._restored is None or n <= self._restored}

    def _prune(self, saved: int) -> None:
        """Delete the steps that no rule keeps; what is damaged stays, since a copy of a file may mend it."""
        metrics = self._intact or {}
        keep = {saved, *self._kept_as_they_are, *self._kept.of(metrics)}
        for step in self._folders.named().keys() - keep:
            if step < max(metrics):
                with suppress(OSError):  # what was saved is on disk; a step too many harms nothing
                    self._folders.discard(step)
                metrics.pop(step, None)
