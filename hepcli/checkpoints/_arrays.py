"""The arrays of a step, as Orbax writes and reads them."""

import functools
import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hepcli.checkpoints._manifest import DamagedError, unread

STATE = "state"
_FILES_BYTES = 1 << 16  # about what a step takes beside its arrays: a dozen small files


def read_leaves(folder: Path, specs: Mapping[str, Any]) -> dict[str, np.ndarray]:
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
            raise unread("its arrays", error) from error
        reason = system_reason(error) or str(error).partition("\n")[0]
        raise DamagedError(f"its arrays cannot be read ({reason})") from error
    return {name: result[key] for key, name in keys.items()}


def write_arrays(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Have Orbax make a folder of arrays; raises OSError where there is no room for them."""
    _require_room(folder.with_name("room"), sum(leaf.nbytes for leaf in arrays.values()) + _FILES_BYTES)
    ocp = _orbax()
    with _checkpointer() as checkpointer, plain_path(folder.parent) as where:
        checkpointer.save(where / folder.name, args=ocp.args.PyTreeSave(dict(arrays)))


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


def leaf_digest(leaf: np.ndarray) -> str:
    """The sha256 of an array's bytes, in hexadecimal."""
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
