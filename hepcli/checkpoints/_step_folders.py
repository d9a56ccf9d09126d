"""The folders of steps: their names, and how one comes into its place or goes.

A step is a folder named after its number: `state/` written by Orbax, `manifest.json` (metadata, metric, the
path, shape, dtype and sha256 of each leaf, the size and sha256 of each Orbax file) and `manifest.sha256`.
It is built under a hidden name and renamed when all of it is on disk: whenever the process is killed, a step
is there whole or not at all, and one that is replaced is there, old or new. Orbax itself loads flipped bytes
silently, so it only ever sees verified files.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hepcli.checkpoints._arrays import STATE
from hepcli.checkpoints._manifest import (
    DELETING,
    REPLACED,
    SAVING,
    DamagedError,
    UnreadableError,
    file_digests,
    is_complete,
    is_refused,
    verified_manifest,
    write_manifest,
)
from hepcli.checkpoints._step_files import write_state
from hepcli.errors import CheckpointError
from hepcli.files import sync


def is_number(name: str) -> bool:
    """Whether a name is that of a step."""
    return name.isdecimal() and str(int(name)) == name


def step_folders(directory: Path, prefix: str = "") -> dict[int, Path]:
    """List the folders called prefix and step number, whole or not; none where there is no directory."""
    try:
        result = [entry for entry in directory.iterdir() if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise CheckpointError(
            f"{directory} cannot be read: {error.strerror}.", "Check its permissions."
        ) from error
    names = {folder.name.removeprefix(prefix): folder for folder in result if folder.name.startswith(prefix)}
    return {int(name): folder for name, folder in names.items() if is_number(name)}


def present_steps(directory: Path) -> dict[int, Path]:
    """The folder of each step, damaged or not; one that a kill left whole may still have a hidden name."""
    found = step_folders(directory)
    for prefix in (SAVING, REPLACED):  # the new one first
        for step, folder in step_folders(directory, prefix).items():
            if step not in found and is_complete(folder, step):
                found[step] = folder
    return found


class StepFolders:
    """The steps of one run on disk, each built under a hidden name and renamed when all of it is there.

    Args:
        path: the folder that holds them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def present(self) -> dict[int, Path]:
        """The folder of each step, damaged or not."""
        return present_steps(self.path)

    def named(self) -> dict[int, Path]:
        """The folders that are called after their step."""
        return step_folders(self.path)

    def complete(self) -> list[int]:
        """The steps whose files are all there with their sizes, ascending."""
        return sorted(step for step, folder in self.present().items() if is_complete(folder))

    def unfinished(self) -> dict[int, str]:
        """Steps whose saving did not come to its end, and what to say of them."""
        reason = "is damaged: saving it was interrupted or is still in progress"
        finished = self.present()
        return {n: reason for n in step_folders(self.path, SAVING) if n not in finished}

    def write(self, step: int, leaves: Mapping[str, np.ndarray], manifest: Mapping[str, Any]) -> None:
        """Write one step under a hidden name, rename it, then clear what it replaced.

        Raises:
            OSError, ValueError: of the system, or of what writes for Orbax.
        """
        staging = self.path / f"{SAVING}{step}"
        if staging.exists():  # TensorStore may still have been writing when a failed save was cleared away
            shutil.rmtree(staging)
        try:
            staging.mkdir()
            stored = write_state(staging / STATE, leaves)
            write_manifest(staging, {**manifest, "leaves": stored, "files": file_digests(staging)})
            self._put(staging, step)
            sync(self.path)
        finally:
            if (self.path / str(step)).exists() or not is_complete(staging):
                shutil.rmtree(staging, ignore_errors=True)
        self._clear(DELETING)
        self._clear(REPLACED)

    def _put(self, staging: Path, step: int) -> None:
        """Give a step its name; one of that name makes room, and comes back where that fails."""
        folder, old = self.path / str(step), self.path / f"{REPLACED}{step}"
        shutil.rmtree(old, ignore_errors=True)
        replaces = folder.exists()
        if replaces:
            folder.rename(old)
        try:
            staging.rename(folder)
        except OSError:
            if replaces:
                old.rename(folder)
            raise

    def _clear(self, prefix: str) -> None:
        """Delete what has such a name, as far as that can be done now, and is not the only copy of a step."""
        named = self.named()
        for step, folder in step_folders(self.path, prefix).items():
            if prefix == DELETING or step in named or not is_refused(folder):
                shutil.rmtree(folder, ignore_errors=True)

    def survey(self) -> tuple[dict[int, float | None], dict[int, str]]:
        """Clear what a killed process left behind, and read every byte of every step.

        Returns:
            The intact steps with their metrics; the others, with what is wrong with them.
        """
        for step, folder in self.present().items():
            if folder.name != str(step):  # whole, and not renamed yet
                folder.rename(self.path / str(step))
        named = self.named()
        for step, folder in step_folders(self.path, REPLACED).items():
            if step not in named:  # what was to take its place never came
                folder.rename(self.path / str(step))
        for prefix in (SAVING, REPLACED, DELETING):
            self._clear(prefix)
        intact: dict[int, float | None] = {}
        faulty: dict[int, str] = {}
        for step, folder in self.named().items():
            try:
                intact[step] = verified_manifest(folder)["metric"]
            except UnreadableError as error:
                faulty[step] = f"cannot be read: {error}"
            except DamagedError as error:
                faulty[step] = f"is damaged: {error}"
        return intact, faulty

    def discard(self, step: int) -> None:
        """Delete a step, if there: renamed first, so that a half-deleted one never looks like a step."""
        folder = self.path / str(step)
        if folder.exists():
            doomed = folder.rename(self.path / f"{DELETING}{step}")
            # What cannot go now (on NFS a file that somebody still reads) goes when the next run begins.
            shutil.rmtree(doomed, ignore_errors=True)


class Kept(NamedTuple):
    """How many of the newest steps stay, how many of the best, and all that this divides; 0 for none."""

    latest: int
    best: int
    every: int

    def of(self, metrics: Mapping[int, float | None]) -> set[int]:
        """The steps that a rule keeps, of these with their metrics."""
        rated = sorted((-metric, step) for step, metric in metrics.items() if metric is not None)
        best = {step for _, step in rated[: self.best]}
        every = {step for step in metrics if self.every and step % self.every == 0}
        return {*sorted(metrics)[-self.latest :], *best, *every}
