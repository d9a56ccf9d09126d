"""MNIST and its family: Kuzushiji-MNIST, and Fashion-MNIST, which in a small form ships with the package."""

import hashlib
from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hepcli.data._idx import IdxPairs
from hepcli.data._spec import Archives, Bundled, DatasetSpec, SplitName

_FILENAMES: Mapping[SplitName, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
_MNIST_COUNTS = (
    (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
)
_FASHION_LABELS = (
    "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
    "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
)
"""SHA-256 of the labels alone. Kuzushiji-MNIST has as many of each class, in another order."""


def _other_set(name: str, labels: NDArray[np.uint8]) -> str | None:
    """The member of the family that labels are of, where it is not `name`."""
    counts = tuple(map(int, np.bincount(labels)))
    if counts in _MNIST_COUNTS:
        found = "mnist"
    elif hashlib.sha256(labels.tobytes()).hexdigest() in _FASHION_LABELS:
        found = "fashion_mnist"
    elif counts in ((6000,) * 10, (1000,) * 10):
        found = "kmnist"
    else:
        return None
    return None if found == name else found


def _of_the_family(name: str) -> DatasetSpec:
    pairs = IdxPairs(_FILENAMES, partial(_other_set, name))
    return DatasetSpec(
        name=name,
        image_shape=(28, 28, 1),
        num_classes=10,
        num_examples={"train": 60_000, "test": 10_000},
        source=Archives(
            tfds_name=name,
            filenames=tuple(name for pair in _FILENAMES.values() for name in pair),
            read_blocks=pairs,
        ),
    )


MNIST = _of_the_family("mnist")
KMNIST = _of_the_family("kmnist")
FASHION_MNIST = _of_the_family("fashion_mnist")

FASHION_MNIST_MINI = DatasetSpec(
    name="fashion_mnist_mini",
    image_shape=(28, 28, 1),
    num_classes=10,
    num_examples={"train": 5_000, "test": 1_000},
    source=Bundled(resource="fashion_mnist_mini.npz", parent="fashion_mnist"),
)
