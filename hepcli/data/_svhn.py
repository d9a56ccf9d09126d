"""SVHN, the cropped digits, from MATLAB files."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepcli.data._spec import Archives, Block, DatasetSpec, SplitName
from hepcli.errors import DatasetError

_FILES: Mapping[SplitName, str] = {"train": "train_32x32.mat", "test": "test_32x32.mat"}
_READER = """
import sys
import numpy
from scipy.io import loadmat
try:
    content = loadmat(sys.argv[1], variable_names=("X", "y"))
    arrays = [content[name] for name in "Xy"]
except Exception as error:
    print(error, file=sys.stderr)
    sys.exit(3)
for array, file in zip(arrays, sys.argv[2:]):
    numpy.save(file, array, allow_pickle=False)
"""
_CRASHES = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE")
_DAMAGED = (3, *(-getattr(signal, name) for name in _CRASHES if hasattr(signal, name)))
"""How the reader ends where it is the file that is wrong."""
_ADVICE = "Fetch this file again from its official source and repeat the command."


def _read_blocks(paths: Mapping[str, Path], split: SplitName) -> Iterator[Block]:
    """Yield the whole split; the digit 0, which the files call 10, is class 0."""
    path = paths[_FILES[split]]
    images, labels = _load(path)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != len(labels):
        raise DatasetError(f"{path} contains no images with labels.", _ADVICE)
    if not np.isin(labels, np.arange(1, 11)).all():
        raise DatasetError(f"{path} contains labels other than 1 … 10.", _ADVICE)
    yield np.ascontiguousarray(images.transpose(3, 0, 1, 2)), (labels % 10).astype(np.int32)


def _load(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """The arrays X and y, read in a process of its own: damaged files end SciPy's reader with a crash.

    Raises:
        DatasetError: it cannot read them.
    """
    with tempfile.TemporaryDirectory(prefix="hep-svhn-") as folder:
        kept = [Path(folder) / f"{name}.npy" for name in "Xy"]
        command = [sys.executable, "-P", "-c", _READER, *map(str, (path, *kept))]
        reader = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        reason = reader.stderr.strip().rpartition("\n")[2] or f"its reader ended with {reader.returncode}"
        if reader.returncode in _DAMAGED:
            raise DatasetError(f"{path} is not an SVHN MATLAB file: {reason}.", _ADVICE)
        if reader.returncode:
            advice = f"It takes about a GiB of memory, and as much in {tempfile.gettempdir()} (TMPDIR)."
            raise DatasetError(f"{path} could not be read: {reason}.", advice)
        images, labels = (np.load(file) for file in kept)
    return images, labels.ravel()


SVHN_CROPPED = DatasetSpec(
    name="svhn_cropped",
    image_shape=(32, 32, 3),
    num_classes=10,
    num_examples={"train": 73_257, "test": 26_032},
    source=Archives(tfds_name="svhn_cropped", filenames=tuple(_FILES.values()), read_blocks=_read_blocks),
)
