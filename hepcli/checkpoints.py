"""Save and restore training states with Orbax, so that damage is noticed and never loaded.

A step is a folder named after its number: `state/` written by Orbax, `manifest.json` (metadata, metric, the
path, shape, dtype and sha256 of each leaf, the size and sha256 of each Orbax file) and `manifest.sha256`.
It is built under a hidden name and renamed when all of it is on disk: whenever the process is killed, a step
is there whole or not at all. Orbax itself loads flipped bytes silently, so it only ever sees verified files.
"""

import functools
import hashlib
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from hepcli.errors import CheckpointError, OutputError

CHECKPOINTS_FOLDER = "checkpoints"
CONFIG_FILE = "config.toml"

PyTree = Any  # what JAX flattens: nested dictionaries, tuples and named tuples of arrays

_FORMAT = 1
_MANIFEST = "manifest.json"
_CHECKSUM = "manifest.sha256"
_STATE = "state"
_SAVING = ".saving-"
_DELETING = ".deleting-"
_FILES_BYTES = 1 << 16  # about what a step takes beside its arrays: a dozen small files
_NO_STEP_ADVICE = "Copy the run folder again from its source, or train into a new one: hep train --out DIR"


class Restored(NamedTuple):
    """A state read back from a checkpoint.

    Args:
        step: the step it was saved at.
        state: the tree of the target, with NumPy leaves.
        metadata: what was given to `save`, after a round trip through JSON.
        damaged: one line for each step that was skipped, newest first.
    """

    step: int
    state: PyTree
    metadata: dict[str, Any]
    damaged: tuple[str, ...]


class _DamagedError(Exception):
    """A step folder whose content is not what was saved."""


class CheckpointStore:
    """The checkpoints of one run; only one process may save, any number may restore.

    Args:
        directory: the folder that holds the steps, made at the first save.
        keep_latest: how many of the newest steps to keep, at least 1.
        keep_best: how many of the steps with the highest metric to keep as well.
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
        self._keep_latest = keep_latest
        self._keep_best = keep_best
        self._keep_every_steps = keep_every_steps
        self._intact: dict[int, float | None] | None = None  # step to metric; None until the first save
        self._writer: ThreadPoolExecutor | None = None
        self._pending: tuple[int, Future[None]] | None = None

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

    def save(self, step: int, state: PyTree, metadata: Mapping[str, Any], metric: float | None) -> None:
        """Copy the state to the host and write it in the background; a step already saved is left alone.

        Args:
            step: the number of the step, 0 or more.
            state: the tree to save; its arrays may be donated as soon as this returns.
            metadata: anything JSON can hold.
            metric: decides the best step, higher is better; None or not finite: never the best.

        Raises:
            OutputError: when the previous save failed.
            ValueError: when the step is negative.
        """
        self.wait()  # one copy of the state in memory at a time
        if step < 0:
            raise ValueError(f"step must be 0 or more, not {step}")
        if self._intact is not None and step in self._intact:
            return
        # A real copy: on CPU np.asarray would alias a buffer that the next step may overwrite by donation.
        leaves = {name: np.array(leaf) for name, leaf in _named_leaves(state).items()}
        finite = metric is not None and math.isfinite(metric)
        manifest = {
            "format": _FORMAT,
            "step": step,
            "metric": float(metric) if metric is not None and finite else None,
            "metadata": json.loads(json.dumps(dict(metadata))),  # a snapshot: the caller may change its own
        }
        if self._writer is None:
            self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending = step, self._writer.submit(self._write_step, step, leaves, manifest)

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
        reason = _system_reason(error)
        if reason is None:
            raise error
        raise OutputError(
            f"Step {step} could not be saved in {self._directory}: {reason}.",
            "Make room or make the folder writable, then continue from the last step that was saved: "
            f"hep train --resume --out {self._directory.parent}",
        ) from error

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
        """List the complete steps, ascending; sizes are checked, content only by `restore`.

        Returns:
            The numbers of the steps.
        """
        self.wait()
        return sorted(step for step, folder in _step_folders(self._directory).items() if _is_complete(folder))

    def restore(self, target: PyTree, step: int | None = None) -> Restored:
        """Read a step back, bit for bit; nothing is written, so the folder may be read-only.

        Args:
            target: a tree of arrays or `jax.ShapeDtypeStruct` that gives structure, shapes and dtypes.
            step: the step to read; None for the newest one that is intact.

        Returns:
            The state, with what was skipped to find it.

        Raises:
            CheckpointError: when no step is intact, the step is missing, or it is of another network.
        """
        self.wait()
        folders = _step_folders(self._directory)
        if step is not None and step not in folders:
            raise CheckpointError(f"There is no step {step} in {self._directory}.", self._advice(step))
        unfinished = {} if step is not None else _step_folders(self._directory, _SAVING)
        damaged: list[str] = []
        for number in sorted({*folders, *unfinished} if step is None else {step}, reverse=True):
            try:
                if number not in folders:
                    raise _DamagedError("its save was cut short, or is still going on")
                state, metadata = _read_step(folders[number], target)
            except _DamagedError as error:
                damaged.append(f"Step {number} is not intact: {error}.")
            else:
                return Restored(number, state, metadata, tuple(damaged))
        found = " ".join(damaged) or "It holds no step."
        advice = _NO_STEP_ADVICE if step is None else self._advice(step)
        raise CheckpointError(f"No intact checkpoint in {self._directory}. {found}", advice)

    def _advice(self, excluded: int) -> str:
        """Name the other complete steps, or what to do without any."""
        others = ", ".join(str(step) for step in self.steps() if step != excluded)
        return f"Choose another with --step: {others}." if others else _NO_STEP_ADVICE

    def _write_step(self, step: int, leaves: dict[str, np.ndarray], manifest: dict[str, Any]) -> None:
        """Write one step under a hidden name, rename it, then delete what need not be kept."""
        self._directory.mkdir(parents=True, exist_ok=True)
        if self._intact is None:
            self._intact = self._survey()
        if step in self._intact:
            return
        staging = self._directory / f"{_SAVING}{step}"
        if staging.exists():  # TensorStore may still have been writing when a failed save was cleared away
            shutil.rmtree(staging)
        try:
            staging.mkdir()
            stored = _write_state(staging / _STATE, leaves)
            _write_manifest(staging, manifest | {"leaves": stored, "files": _file_digests(staging)})
            self._discard(step)  # a damaged step of that number, else `_survey` would have found it
            staging.rename(self._directory / str(step))
            _sync(self._directory)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        self._intact[step] = manifest["metric"]
        self._prune(step)

    def _survey(self) -> dict[int, float | None]:
        """Clear what a killed process left behind; return the intact steps with their metrics."""
        for prefix in (_SAVING, _DELETING):
            for folder in _step_folders(self._directory, prefix).values():
                shutil.rmtree(folder)
        intact: dict[int, float | None] = {}
        for step, folder in _step_folders(self._directory).items():
            try:
                intact[step] = _verified_manifest(folder)["metric"]
            except _DamagedError:
                continue  # not counted as kept; `restore` is what reports it
        return intact

    def _prune(self, saved: int) -> None:
        """Delete the steps that no rule keeps; damaged ones go once an intact one is newer."""
        metrics = self._intact or {}
        steps = sorted(metrics)
        rated = sorted((metric, step) for step, metric in metrics.items() if metric is not None)
        keep = {saved, *steps[-self._keep_latest :]}
        keep.update(step for _, step in rated[max(len(rated) - self._keep_best, 0) :])
        if self._keep_every_steps:
            keep.update(step for step in steps if step % self._keep_every_steps == 0)
        for step in _step_folders(self._directory).keys() - keep:
            if step < steps[-1]:
                self._discard(step)
                metrics.pop(step, None)

    def _discard(self, step: int) -> None:
        """Delete a step, if there: renamed first, so that a half-deleted one never looks like a step."""
        folder = self._directory / str(step)
        if folder.exists():
            doomed = folder.rename(self._directory / f"{_DELETING}{step}")
            shutil.rmtree(doomed)


def resolve_checkpoint(path: Path) -> tuple[Path, int | None]:
    """Find the run that a CHECKPOINT argument means.

    Args:
        path: a run folder, its checkpoints/ folder, or one step in it.

    Returns:
        The run folder, and the step where one was named.

    Raises:
        CheckpointError: when it does not exist, is none of the three, or holds no step.
    """
    usage = "Give a run folder, its checkpoints/ folder or one step in it, such as runs/NAME/checkpoints/100."
    folder = path.resolve()
    if not folder.is_dir():
        raise CheckpointError(f"{path} {'is not a folder' if folder.exists() else 'does not exist'}.", usage)
    run, step = folder, None
    # The configuration decides, not the name: a run folder may itself be called "checkpoints" or "100".
    if not (run / CONFIG_FILE).is_file():
        if _is_number(run.name):
            run, step = run.parent, int(run.name)
        run = run.parent if run.name == CHECKPOINTS_FOLDER else folder
    if not (run / CONFIG_FILE).is_file():
        raise CheckpointError(f"{path} is not (part of) a run: there is no {run / CONFIG_FILE}.", usage)
    if not _step_folders(run / CHECKPOINTS_FOLDER):
        raise CheckpointError(
            f"{run} holds no checkpoint yet.",
            f"Train it until the first is saved: hep train --resume --out {run}",
        )
    return run, step


def _named_leaves(tree: PyTree) -> dict[str, Any]:
    """Flatten a tree into leaves by path, such as `['params']['w']`; JAX quotes keys, so paths are unique."""
    import jax

    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _spec(leaf: Any) -> dict[str, Any]:
    """Describe shape and dtype of an array, a `ShapeDtypeStruct` or a Python number."""
    array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return {"shape": list(array.shape), "dtype": str(array.dtype)}


def _is_number(name: str) -> bool:
    return name.isdecimal() and str(int(name)) == name


def _step_folders(directory: Path, prefix: str = "") -> dict[int, Path]:
    """List the folders called prefix and step number, whole or not; none where there is no directory."""
    try:
        found = [entry for entry in directory.iterdir() if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise CheckpointError(
            f"{directory} cannot be read: {error.strerror}.", "Check its permissions."
        ) from error
    names = {folder.name.removeprefix(prefix): folder for folder in found if folder.name.startswith(prefix)}
    return {int(name): folder for name, folder in names.items() if _is_number(name)}


def _manifest_checksum(text: bytes) -> bytes:
    """What `manifest.sha256` must hold; `sha256sum --check` understands it."""
    return f"{hashlib.sha256(text).hexdigest()}  {_MANIFEST}\n".encode()


def _read_manifest(folder: Path) -> dict[str, Any]:
    """Read a manifest that is itself intact; the files it lists are not looked at."""
    try:
        text, checksum = (folder / _MANIFEST).read_bytes(), (folder / _CHECKSUM).read_bytes()
    except OSError as error:
        raise _DamagedError(f"its manifest cannot be read ({error.strerror})") from error
    if checksum != _manifest_checksum(text):
        raise _DamagedError(f"{_MANIFEST} and {_CHECKSUM} disagree")
    manifest: dict[str, Any] = json.loads(text)
    if manifest["format"] != _FORMAT:
        raise CheckpointError(f"{folder} is of an unknown format.", "It needs a newer version of hepcli.")
    return manifest


def _is_complete(folder: Path) -> bool:
    try:
        files = _read_manifest(folder)["files"]
        return all((folder / name).stat().st_size == file["bytes"] for name, file in files.items())
    except (_DamagedError, OSError):
        return False


def _verified_manifest(folder: Path) -> dict[str, Any]:
    """Read a manifest after checking every byte of the step against it."""
    manifest = _read_manifest(folder)
    if str(manifest["step"]) != folder.name:
        raise _DamagedError(f"its manifest is of step {manifest['step']}")
    for name, file in manifest["files"].items():
        try:
            digest = _file_digest(folder / name)
        except OSError as error:
            raise _DamagedError(f"{name} cannot be read ({error.strerror})") from error
        if digest != file["sha256"]:
            raise _DamagedError(f"the content of {name} has changed since it was saved")
    return manifest


def _read_step(folder: Path, target: PyTree) -> tuple[PyTree, dict[str, Any]]:
    """Load one step into the tree of the target."""
    import jax

    manifest = _verified_manifest(folder)
    specs = manifest["leaves"]
    wanted = {name: _spec(leaf) for name, leaf in _named_leaves(target).items()}
    _check_target(folder, specs, wanted)
    leaves = {name: np.empty(spec["shape"], spec["dtype"]) for name, spec in specs.items()}
    stored = {spec["key"]: leaves[name] for name, spec in specs.items() if leaves[name].size}
    if stored:
        ocp = _orbax()
        as_numpy = ocp.args.PyTreeRestore(
            restore_args=dict.fromkeys(stored, ocp.RestoreArgs(restore_type=np.ndarray))
        )
        with _checkpointer() as checkpointer:
            stored = checkpointer.restore(folder / _STATE, args=as_numpy)
    for name, spec in specs.items():
        leaves[name] = stored.get(spec["key"], leaves[name])
        if _leaf_digest(leaves[name]) != spec["sha256"]:
            raise _DamagedError(f"the leaf {name} is not what was saved")
    return jax.tree.unflatten(jax.tree.structure(target), [leaves[name] for name in wanted]), manifest[
        "metadata"
    ]


def _check_target(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another network, naming the first leaf that differs; nothing is ever cast."""

    def describe(leaf: Mapping[str, Any] | None) -> str:
        return "none" if leaf is None else f"{leaf['dtype']}{leaf['shape']}"

    for name in dict.fromkeys([*wanted, *found]):
        expected, saved = describe(wanted.get(name)), describe(found.get(name))
        if expected != saved:
            raise CheckpointError(
                f"{folder} is of another network: its leaf {name} is {saved}, expected is {expected}.",
                "Use the configuration it was trained with: the config.toml of its run folder.",
            )


def _write_state(folder: Path, leaves: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Give the leaves to Orbax under short keys, since any character may occur in a path.

    Args:
        folder: what Orbax makes.
        leaves: arrays by path; those of size zero, which Orbax refuses, live in the result alone.

    Returns:
        The key, shape, dtype and digest of each leaf, for the manifest.
    """
    specs = {
        name: {"key": f"{index:05d}", **_spec(leaf), "sha256": _leaf_digest(leaf)}
        for index, (name, leaf) in enumerate(leaves.items())
    }
    stored = {spec["key"]: leaves[name] for name, spec in specs.items() if leaves[name].size}
    if stored:
        _require_room(folder.with_name("room"), sum(leaf.nbytes for leaf in stored.values()) + _FILES_BYTES)
        ocp = _orbax()
        with _checkpointer() as checkpointer:
            checkpointer.save(folder, args=ocp.args.PyTreeSave(stored))
    return specs


def _require_room(probe: Path, size: int) -> None:
    """Raise OSError where a file of that size has no room: later, TensorStore litters the terminal."""
    with probe.open("wb") as file:
        if hasattr(os, "posix_fallocate"):  # absent on macOS
            os.posix_fallocate(file.fileno(), 0, size)
    probe.unlink()


def _write_manifest(staging: Path, manifest: Mapping[str, Any]) -> None:
    """Write manifest and checksum, and bring everything in the folder to the disk."""
    text = json.dumps(manifest, indent=1).encode()
    (staging / _MANIFEST).write_bytes(text)
    (staging / _CHECKSUM).write_bytes(_manifest_checksum(text))
    for entry in (staging, *staging.rglob("*")):
        _sync(entry)


def _sync(path: Path) -> None:
    """Flush a file or folder: a disk may report that it is full no earlier than here."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _file_digests(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": _file_digest(path)}
        for path in files
    }


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _leaf_digest(leaf: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data).hexdigest()


def _system_reason(error: BaseException | None) -> str | None:
    """What the operating system said behind an error, such as "No space left on device"; None if nothing."""
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        # TensorStore, which writes for Orbax, raises ValueError with the number in its text.
        if code := re.search(r"os_error_code='(\d+)'", str(error)):
            return os.strerror(int(code[1]))
        error = error.__cause__ or error.__context__
    return None


@functools.cache
def _orbax() -> Any:
    """Import Orbax, and keep from the terminal what it logs beside the exceptions it raises."""
    import orbax.checkpoint

    orbax_source = f"{os.sep}orbax{os.sep}"
    logging.getLogger("absl").addFilter(lambda record: orbax_source not in record.pathname)
    return orbax.checkpoint


def _checkpointer() -> Any:
    """Make an Orbax checkpointer that acts for this process alone: in a run of several, only one saves.

    Orbax's newer `v1.save` cannot do this: it waits for all processes, active or not.
    """
    import jax

    ocp = _orbax()
    options = ocp.options.MultiprocessingOptions()
    if jax.process_count() > 1:
        me = jax.process_index()
        options = ocp.options.MultiprocessingOptions(
            primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"hep-{me}"
        )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=options)
    return ocp.Checkpointer(handler, multiprocessing_options=options)
