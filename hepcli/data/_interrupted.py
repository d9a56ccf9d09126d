"""What a killed preparation leaves behind, up to gigabytes, and when it is safe to remove it."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from hepcli.data import _folders
from hepcli.data._spec import DatasetSpec, OnProgress


@contextlib.contextmanager
def clean_start(spec: DatasetSpec, data_dir: Path, report: OnProgress) -> Iterator[None]:
    """Write inside this: it first removes what an interrupted preparation left.

    While another process writes the same data set nothing is removed.

    Args:
        spec: the data set.
        data_dir: where data sets are kept.
        report: receives a line if something was removed.
    """
    folder = data_dir / spec.name
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        leftovers = _leftovers(spec, data_dir) if _lock(handle) else []
        for path in leftovers:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        if leftovers:
            report(
                f"An earlier preparation of {spec.name} was interrupted. Finished downloads and whatever is "
                "prepared are kept; the step it was in starts again."
            )
        yield
    finally:
        os.close(handle)  # releases the lock, as the death of the process does


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process writes, or the file system knows no locks
        return False
    return True


def _leftovers(spec: DatasetSpec, data_dir: Path) -> list[Path]:
    return [
        *(data_dir / spec.name).glob("incomplete.*"),
        *(data_dir / "downloads" / spec.name).glob("*.tmp.*"),
        *(_folders.prepared_folder(spec, data_dir) / "cache").glob(".*.tmp"),
    ]
