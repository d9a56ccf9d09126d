"""The files of one step: writing them, and reading them back only when every byte is as it was."""

import errno
import functools
import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hepcli.errors import CheckpointError
from hepcli.files import file_digest, sync

PyTree = Any  # what JAX flattens: nested dictionaries, tuples and named tuples of arrays

FORMAT = 1
MANIFEST = "manifest.json"
_CHECKSUM = "manifest.sha256"
STATE = "state"
SAVING = ".saving-"
DELETING = ".deleting-"
REPLACED = ".replaced-"
_FILES_BYTES = 1 << 16  # about what a step takes beside its arrays: a dozen small files


class DamagedError(Exception):
    """A step folder whose content is not what was saved."""


class UnreadableError(DamagedError):
    """A step that the system refuses to read, for now: nobody knows that it is damaged."""


def _unread(name: str, error: OSError) -> DamagedError:
    gone = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
    gone = gone or error.errno == errno.ESTALE  # how NFS says that somebody has deleted it
    return (DamagedError if gone else UnreadableError)(f"{name} cannot be read ({error.strerror})")


def named_leaves(tree: PyTree) -> dict[str, Any]:
    """Flatten a tree into leaves by path, such as `['params']['w']`; JAX quotes keys, so paths are unique."""
    import jax

    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def words(leaf: Any) -> Any:
    """A leaf as it is saved: random keys, which NumPy does not know, as the words they are made of."""
    import jax

    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _is_key(leaf: Any) -> bool:
    import jax

    return hasattr(leaf, "dtype") and bool(jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _spec(leaf: Any) -> dict[str, Any]:
    """Describe shape and dtype of an array, a `ShapeDtypeStruct` or a Python number."""
    array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return {"shape": list(array.shape), "dtype": str(array.dtype)}


def is_number(name: str) -> bool:
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


def _manifest_checksum(text: bytes) -> bytes:
    """What `manifest.sha256` must hold; `sha256sum --check` understands it."""
    return f"{hashlib.sha256(text).hexdigest()}  {MANIFEST}\n".encode()


def _read_manifest(folder: Path) -> dict[str, Any]:
    """Read a manifest that is itself intact; the files it lists are not looked at."""
    try:
        text, checksum = (folder / MANIFEST).read_bytes(), (folder / _CHECKSUM).read_bytes()
    except OSError as error:
        raise _unread("its manifest", error) from error
    if checksum != _manifest_checksum(text):
        raise DamagedError(f"{MANIFEST} and {_CHECKSUM} disagree")
    manifest: dict[str, Any] = json.loads(text)
    if manifest["format"] != FORMAT:
        raise CheckpointError(f"{folder} has an unknown format.", "It needs a newer version of hepcli.")
    return manifest


def is_complete(folder: Path, step: int | None = None) -> bool:
    """Whether all files are there with their sizes, and are of that step."""
    try:
        manifest = _read_manifest(folder)
        files, own = manifest["files"], manifest["step"]
        return step in (None, own) and all(
            (folder / name).stat().st_size == file["bytes"] for name, file in files.items()
        )
    except (DamagedError, OSError):
        return False


def is_refused(folder: Path) -> bool:
    """Whether the system refuses to read it, so that nobody knows what it holds."""
    try:
        _read_manifest(folder)
    except UnreadableError:
        return True
    except (DamagedError, CheckpointError):
        pass  # known to be damaged, or of a newer version
    return False


def verified_manifest(folder: Path) -> dict[str, Any]:
    """Read a manifest after checking every byte of the step against it."""
    manifest = _read_manifest(folder)
    if str(manifest["step"]) != folder.name.removeprefix(SAVING).removeprefix(REPLACED):
        raise DamagedError(f"its manifest is for step {manifest['step']}")
    for name, file in manifest["files"].items():
        try:
            digest = file_digest(folder / name)
        except OSError as error:
            raise _unread(name, error) from error
        if digest != file["sha256"]:
            raise DamagedError(f"the content of {name} has changed since it was saved")
    return manifest


def read_step(
    folder: Path, target: PyTree, whole: bool, older: Mapping[str, str | None]
) -> tuple[PyTree, dict[str, Any]]:
    """Load one step into the tree of the target; see `CheckpointStore.restore`."""
    import jax

    manifest = verified_manifest(folder)
    like = named_leaves(target)
    wanted = {name: _spec(words(leaf)) for name, leaf in like.items()}
    specs = _by_newer_name(manifest["leaves"], wanted, older)
    if not whole:
        specs = {name: spec for name, spec in specs.items() if name in wanted}
    _check_target(folder, specs, wanted)
    leaves: dict[str, Any] = {name: np.zeros(spec["shape"], spec["dtype"]) for name, spec in specs.items()}
    saved = {name: spec for name, spec in specs.items() if "key" in spec}
    for name, leaf in _read_leaves(folder, {n: s for n, s in saved.items() if leaves[n].size}).items():
        leaves[name] = leaf
    for name, spec in saved.items():
        if _leaf_digest(leaves[name]) != spec["sha256"]:
            raise DamagedError(f"the array {name} differs from what was saved")
    for name, leaf in like.items():
        if _is_key(leaf):
            leaves[name] = jax.random.wrap_key_data(leaves[name], impl=jax.random.key_impl(leaf))
    tree = jax.tree.unflatten(jax.tree.structure(target), [leaves[name] for name in wanted])
    return tree, manifest["metadata"]


def _by_newer_name(
    specs: Mapping[str, Any], wanted: Mapping[str, Any], older: Mapping[str, str | None]
) -> dict[str, Any]:
    """The leaves of a step under the names of the target; one that was not saved then has no key."""
    named = dict(specs)
    for name, before in older.items():
        if name in wanted and name not in named:
            if before in named:
                named[name] = named.pop(before)
            elif before is None:
                named[name] = dict(wanted[name])
    return named


def _read_leaves(folder: Path, specs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays that Orbax wrote, by name."""
    if not specs:
        return {}
    ocp = _orbax()
    keys = {spec["key"]: name for name, spec in specs.items()}
    arrays = dict.fromkeys(keys, ocp.RestoreArgs(restore_type=np.ndarray))
    # Other leaves of the step are left where they are.
    some = ocp.args.PyTreeRestore(
        item={key: np.empty(specs[name]["shape"], specs[name]["dtype"]) for key, name in keys.items()},
        restore_args=arrays,
        partial_restore=True,
    )
    try:
        with _checkpointer() as checkpointer, plain_path(folder) as where:
            result = checkpointer.restore(where / STATE, args=some)
    except (OSError, ValueError) as error:  # a file has gone or changed since it was verified
        if isinstance(error, OSError) and error.strerror:
            raise _unread("its arrays", error) from error
        reason = system_reason(error) or str(error).partition("\n")[0]
        raise DamagedError(f"its arrays cannot be read ({reason})") from error
    return {name: result[key] for key, name in keys.items()}


def _check_target(folder: Path, result: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another network, naming the first leaf that differs; nothing is ever cast."""

    for name in dict.fromkeys([*wanted, *result]):
        expected, saved = _described(wanted.get(name)), _described(result.get(name))
        if expected != saved:
            what = f"is {saved}, but {expected} is expected" if expected and saved else "is missing"
            raise CheckpointError(
                f"{folder} belongs to another network: its array {name} "
                f"{what if expected else 'is not expected'}.",
                "Use the configuration it was trained with: the config.toml of its run folder.",
            )


def _described(leaf: Mapping[str, Any] | None) -> str:
    return "" if leaf is None else f"{leaf['dtype']}{leaf['shape']}"


def write_state(folder: Path, leaves: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
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
        with _checkpointer() as checkpointer, plain_path(folder.parent) as where:
            checkpointer.save(where / folder.name, args=ocp.args.PyTreeSave(stored))
    return specs


@contextmanager
def plain_path(folder: Path) -> Iterator[Path]:
    """A path to a folder that holds no character that Orbax or TensorStore read as a pattern.

    They take [0.1] in the name of a run for one: what is saved there is not found again.
    """
    if re.fullmatch(r"[\w./ +=,@-]*", str(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="hep-") as elsewhere:
        link = Path(elsewhere) / "step"
        link.symlink_to(folder, target_is_directory=True)
        yield link


def _require_room(probe: Path, size: int) -> None:
    """Raise OSError where a file of that size has no room: later, TensorStore litters the terminal."""
    with probe.open("wb") as file:
        if hasattr(os, "posix_fallocate"):  # absent on macOS
            os.posix_fallocate(file.fileno(), 0, size)
    probe.unlink()


def write_manifest(staging: Path, manifest: Mapping[str, Any]) -> None:
    """Write manifest and checksum, and bring everything in the folder to the disk."""
    text = json.dumps(manifest, indent=1).encode()
    (staging / MANIFEST).write_bytes(text)
    (staging / _CHECKSUM).write_bytes(_manifest_checksum(text))
    for entry in (staging, *staging.rglob("*")):
        sync(entry)


def file_digests(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in files
    }


def _leaf_digest(leaf: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data).hexdigest()


def system_reason(error: BaseException | None) -> str | None:
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
