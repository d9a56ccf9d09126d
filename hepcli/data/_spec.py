"""What a data set is: its shape, its size and where its examples come from."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

SplitName = Literal["train", "test"]
SPLIT_NAMES: tuple[SplitName, ...] = ("train", "test")
OnProgress = Callable[[str], None]  # receives progress, a line at a time

Block = tuple[NDArray[np.uint8], NDArray[np.int32]]
BlockReader = Callable[[Mapping[str, Path], SplitName], Iterator[Block]]


def silent(line: str) -> None:
    """A report for a caller that does not want to know how far it is."""


class Split(NamedTuple):
    """One split of a data set, read-only, in the official order.

    Attributes:
        images: uint8 (examples, height, width, channels); may be memory-mapped.
        labels: int32 (examples,), each in 0 … num_classes − 1.
        num_classes: number of classes of the whole data set.
        notice: what the user should know of how it was loaded, or None.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int32]
    num_classes: int
    notice: str | None = None


@dataclass(frozen=True)
class Bundled:
    """Examples that ship with the package.

    Attributes:
        resource: name of an .npz file beside this module, with the arrays
            `train_images`, `train_labels`, `test_images` and `test_labels`.
        parent: the data set the examples were taken from.
    """

    resource: str
    parent: str


@dataclass(frozen=True, eq=False)
class InMemory:
    """Examples that a user's own function gave.

    Attributes:
        splits: of the whole data set.
    """

    splits: Mapping[SplitName, Split]


@dataclass(frozen=True)
class Imported:
    """Examples that a user imported from files of their own.

    Attributes:
        folder: where their arrays lie.
    """

    folder: Path


class Contents(NamedTuple):
    """The files of an archive that a data set needs.

    Attributes:
        folder: the folder they lie in, in the archive and where it is unpacked.
        names: their names in that folder.
    """

    folder: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Archives:
    """Examples that come from archives with official addresses and checksums.

    Attributes:
        tfds_name: data set of tensorflow-datasets whose metadata hold the addresses.
        filenames: official names of the archives; one ending in .gz may also be unpacked.
        read_blocks: given the archives' paths by official name and a split, yields its
            examples in order, as many at a time as is convenient. It checks the file
            format; shapes, labels and counts are checked for every data set alike.
        contents: of archives that hold several files, what they hold; these may be
            unpacked too, and read_blocks is given the folder then.
        other_versions: archives of the same data, official too, that are not read, such as Python pickles.
    """

    tfds_name: str
    filenames: tuple[str, ...]
    read_blocks: BlockReader
    contents: Mapping[str, Contents] = field(default_factory=dict)
    other_versions: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatasetSpec:
    """A data set this tool can train on.

    Attributes:
        name: what presets and commands call it.
        image_shape: (height, width, channels) in pixels.
        num_classes: number of classes.
        num_examples: number of examples of each split.
        source: where the examples come from.
        class_names: in the order of the labels; None where they are not known.
    """

    name: str
    image_shape: tuple[int, int, int]
    num_classes: int
    num_examples: Mapping[SplitName, int]
    source: Bundled | Archives | InMemory | Imported
    class_names: tuple[str, ...] | None = None

    def images_shape(self, split: SplitName) -> tuple[int, int, int, int]:
        """Return (examples, height, width, channels) of a split."""
        return (self.num_examples[split], *self.image_shape)
