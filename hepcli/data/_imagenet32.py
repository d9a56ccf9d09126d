"""ImageNet at 32 × 32 pixels (Chrabaszcz et al., arXiv:1707.08819).

Each archive is a zip of .npz files with `data`, uint8 (k, 3072), the planes of one image a
row, and `labels` (k,), counted from 1. The official validation split is the test split here.
"""

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from hepcli.data._members import FETCH_AGAIN, open_members
from hepcli.data._npz import ArrayStream, open_array
from hepcli.data._planes import BLOCK_EXAMPLES, images_from_planes
from hepcli.data._spec import Archives, Block, Contents, DatasetSpec, SplitName
from hepcli.errors import DatasetError

_IMAGE_SHAPE = (32, 32, 3)
_IMAGE_BYTES = 32 * 32 * 3
_NUM_CLASSES = 1000


@dataclass(frozen=True)
class NpzBatches:
    """Reads a data set stored as one archive of .npz files for each split.

    Attributes:
        archives: official name of each split's archive.
        contents: by archive, its folder and its files in order.
    """

    archives: Mapping[SplitName, str]
    contents: Mapping[str, Contents]

    def __call__(self, paths: Mapping[str, Path], split: SplitName) -> Iterator[Block]:
        """Yield a split, some thousand examples at a time; no file is held in memory whole.

        Args:
            paths: where each archive lies, or the folder of its files, by official name.
            split: the split to read.

        Yields:
            images uint8 (k, 32, 32, 3) and labels int32 (k,), counted from 0.

        Raises:
            DatasetError: an archive is damaged, lacks a file or holds something else.
        """
        archive = self.archives[split]
        path, contents = paths[archive], self.contents[archive]
        with open_members(path, contents.folder) as open_member:
            for name in contents.names:
                with open_member(name) as (file, source):
                    yield from _read_npz(file, source)


def _read_npz(file: IO[bytes], source: str) -> Iterator[Block]:
    with zipfile.ZipFile(file) as npz:
        with open_array(npz, "labels", source) as stream:
            labels = _checked_labels(stream, source)
        with open_array(npz, "data", source) as stream:
            _check_images(stream, len(labels), source)
            start = 0
            for rows in stream.blocks(BLOCK_EXAMPLES):
                yield images_from_planes(rows, _IMAGE_SHAPE), labels[start : start + len(rows)]
                start += len(rows)


def _checked_labels(stream: ArrayStream, source: str) -> NDArray[np.int32]:
    if len(stream.shape) != 1 or stream.dtype.kind not in "iu":
        raise DatasetError(f"{source}: `labels` is {_describe(stream)}, not a row of integers.", FETCH_AGAIN)
    labels = np.concatenate([np.empty(0, stream.dtype), *stream.blocks(BLOCK_EXAMPLES)])
    # Before the narrower type: it would wrap what is far outside.
    wrong = np.flatnonzero((labels < 1) | (labels > _NUM_CLASSES))
    if wrong.size:
        raise DatasetError(
            f"{source}: label {labels[wrong[0]]} of its example {wrong[0]} is outside 1 … {_NUM_CLASSES}.",
            FETCH_AGAIN,
        )
    return labels.astype(np.int32) - np.int32(1)


def _check_images(stream: ArrayStream, num_labels: int, source: str) -> None:
    if len(stream.shape) != 2 or stream.shape[1] != _IMAGE_BYTES or stream.dtype != np.uint8:
        raise DatasetError(
            f"{source}: `data` is {_describe(stream)}, not bytes of 32×32×3 images, {_IMAGE_BYTES} a row.",
            FETCH_AGAIN,
        )
    if stream.shape[0] != num_labels:
        raise DatasetError(f"{source} holds {stream.shape[0]} images, but {num_labels} labels.", FETCH_AGAIN)


def _describe(stream: ArrayStream) -> str:
    return f"{stream.dtype} {'×'.join(map(str, stream.shape))}"


_CONTENTS = {
    "Imagenet32_train_npz.zip": Contents(
        "Imagenet32_train_npz", tuple(f"train_data_batch_{number}.npz" for number in range(1, 11))
    ),
    "Imagenet32_val_npz.zip": Contents("Imagenet32_val_npz", ("val_data.npz",)),
}

IMAGENET32 = DatasetSpec(
    name="imagenet32",
    image_shape=_IMAGE_SHAPE,
    num_classes=_NUM_CLASSES,
    num_examples={"train": 1_281_167, "test": 50_000},
    source=Archives(
        tfds_name="imagenet_resized",
        filenames=tuple(_CONTENTS),
        read_blocks=NpzBatches(
            archives={"train": "Imagenet32_train_npz.zip", "test": "Imagenet32_val_npz.zip"},
            contents=_CONTENTS,
        ),
        contents=_CONTENTS,
        other_versions=("Imagenet32_train.zip", "Imagenet32_val.zip"),
    ),
)
