"""CIFAR-10 and CIFAR-100 in their binary version.

A file is a sequence of records without a header: one byte for each label, then the planes
of an image. CIFAR-10 has one label, CIFAR-100 a coarse one (of 20) and a fine one (of 100).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from hepcli.data._members import FETCH_AGAIN, open_members
from hepcli.data._planes import BLOCK_EXAMPLES, images_from_planes
from hepcli.data._spec import Archives, Block, Contents, DatasetSpec, SplitName
from hepcli.errors import DatasetError

_IMAGE_SHAPE = (32, 32, 3)
_IMAGE_BYTES = 32 * 32 * 3


@dataclass(frozen=True)
class CifarBatches:
    """Reads a data set stored as files of records in one archive.

    Attributes:
        archive: official name of the archive.
        folder: the folder in it.
        filenames: names of each split's files, in order.
        num_labels: labels in a record; the last one is the class.
    """

    archive: str
    folder: str
    filenames: Mapping[SplitName, tuple[str, ...]]
    num_labels: int

    def __call__(self, paths: Mapping[str, Path], split: SplitName) -> Iterator[Block]:
        """Yield a split, some thousand examples at a time.

        Args:
            paths: where the archive lies, or the folder of its files, by official name.
            split: the split to read.

        Yields:
            images uint8 (k, 32, 32, 3) and labels int32 (k,).

        Raises:
            DatasetError: the archive is damaged, or lacks a file.
        """
        path = paths[self.archive]
        with open_members(path, self.folder) as open_member:
            for name in self.filenames[split]:
                with open_member(name) as (file, source):
                    yield from self._read_records(file, source)

    def _read_records(self, file: IO[bytes], source: str) -> Iterator[Block]:
        record_bytes = self.num_labels + _IMAGE_BYTES
        while content := file.read(BLOCK_EXAMPLES * record_bytes):
            if len(content) % record_bytes:
                raise DatasetError(
                    f"{source} is truncated or not a file of 32×32×3 images: its length is not a multiple "
                    f"of {record_bytes} bytes.",
                    FETCH_AGAIN,
                )
            records = np.frombuffer(content, np.uint8).reshape(-1, record_bytes)
            images = images_from_planes(records[:, self.num_labels :], _IMAGE_SHAPE)
            yield images, records[:, self.num_labels - 1].astype(np.int32)


def _spec(name: str, num_classes: int, batches: CifarBatches) -> DatasetSpec:
    names = tuple(name for split in batches.filenames.values() for name in split)
    return DatasetSpec(
        name=name,
        image_shape=_IMAGE_SHAPE,
        num_classes=num_classes,
        num_examples={"train": 50_000, "test": 10_000},
        source=Archives(
            tfds_name=name,
            filenames=(batches.archive,),
            read_blocks=batches,
            contents={batches.archive: Contents(batches.folder, names)},
            other_versions=tuple(f"{name[:5]}-{name[5:]}-{kind}.tar.gz" for kind in ("python", "matlab")),
        ),
    )


CIFAR10 = _spec(
    "cifar10",
    num_classes=10,
    batches=CifarBatches(
        archive="cifar-10-binary.tar.gz",
        folder="cifar-10-batches-bin",
        filenames={
            "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
            "test": ("test_batch.bin",),
        },
        num_labels=1,
    ),
)

CIFAR100 = _spec(
    "cifar100",
    num_classes=100,
    batches=CifarBatches(
        archive="cifar-100-binary.tar.gz",
        folder="cifar-100-binary",
        filenames={"train": ("train.bin",), "test": ("test.bin",)},
        num_labels=2,
    ),
)
