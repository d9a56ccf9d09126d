"""SVHN, the cropped digits, from MATLAB files."""

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from hepcli.data._spec import Archives, Block, DatasetSpec, SplitName
from hepcli.errors import DatasetError

_FILES: Mapping[SplitName, str] = {"train": "train_32x32.mat", "test": "test_32x32.mat"}
_ADVICE = "Fetch this file again from its official source and repeat the command."


def _read_blocks(paths: Mapping[str, Path], split: SplitName) -> Iterator[Block]:
    """Yield the whole split; the digit 0, which the files call 10, is class 0."""
    from scipy.io import loadmat  # type: ignore[import-untyped]
    from scipy.io.matlab import MatReadError  # type: ignore[import-untyped]

    path = paths[_FILES[split]]
    try:
        content = loadmat(path, variable_names=("X", "y"))
        images, labels = content["X"], content["y"].ravel()
    # What SciPy raises for files of another kind, cut short or damaged, found by damaging them.
    except (
        MatReadError, ValueError, TypeError, LookupError, EOFError, OSError, NotImplementedError, zlib.error,
        OverflowError, AttributeError,
    ) as error:  # fmt: skip
        raise DatasetError(f"{path} is not an SVHN MATLAB file: {error}.", _ADVICE) from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != len(labels):
        raise DatasetError(f"{path} contains no images with labels.", _ADVICE)
    if not np.isin(labels, np.arange(1, 11)).all():
        raise DatasetError(f"{path} contains labels other than 1 … 10.", _ADVICE)
    yield np.ascontiguousarray(images.transpose(3, 0, 1, 2)), (labels % 10).astype(np.int32)


SVHN_CROPPED = DatasetSpec(
    name="svhn_cropped",
    image_shape=(32, 32, 3),
    num_classes=10,
    num_examples={"train": 73_257, "test": 26_032},
    source=Archives(tfds_name="svhn_cropped", filenames=tuple(_FILES.values()), read_blocks=_read_blocks),
)
