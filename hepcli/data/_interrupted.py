"""What a killed preparation leaves behind, up to gigabytes, and when it is safe to remove it."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from hepcli.data import _folders
from hepcli.data._spec import DatasetSpec, OnProgress
from hepcli.files import lock

IMPORT_PREFIX = ".import-"  # of folders in which images of a user's own are prepared


@contextlib.contextmanager
def clean_start(spec: DatasetSpec, data_dir: Path, report: OnProgress) -> Iterator[None]:
    """Write inside this: it first removes what an interrupted preparation left.

    While another process writes the same data set nothing is removed, nor is what is written here by others.

    Args:
        spec: the data set.
        data_dir: where data sets are kept.
        report: receives a line if something was removed.
    """
    folder = data_dir / spec.name
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        alone = lock(handle, wait=False)
        leftovers = _leftovers(spec, data_dir) if alone else []
        for path in leftovers:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        if leftovers:
            report(
                f"An earlier preparation of {spec.name} was interrupted. Finished downloads and "
                "prepared files are kept; the interrupted step starts over."
            )
        lock(handle, shared=True)  # waits only for one who is clearing up
        yield
    finally:
        os.close(handle)  # releases the lock, as the death of the process does


def _leftovers(spec: DatasetSpec, data_dir: Path) -> list[Path]:
    return [
        *(data_dir / spec.name).glob("incomplete.*"),
        *(data_dir / spec.name).glob(f"{IMPORT_PREFIX}*"),
        *(data_dir / "downloads" / spec.name).glob("*.tmp.*"),
        *(_folders.prepared_folder(spec, data_dir) / "cache").glob(".*.tmp"),
    ]
