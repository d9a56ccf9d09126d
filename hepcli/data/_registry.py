"""The data sets this tool knows. A new one is one file with its spec and one line here."""

import difflib

from hepcli.data._cifar import CIFAR10, CIFAR100
from hepcli.data._fashion_mnist import FASHION_MNIST, FASHION_MNIST_MINI
from hepcli.data._imagenet32 import IMAGENET32
from hepcli.data._spec import DatasetSpec
from hepcli.errors import DatasetError

DATASETS: dict[str, DatasetSpec] = {
    "fashion_mnist_mini": FASHION_MNIST_MINI,
    "fashion_mnist": FASHION_MNIST,
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "imagenet32": IMAGENET32,
}


def find_spec(name: str) -> DatasetSpec:
    """Return the spec of a data set.

    Args:
        name: a key of DATASETS.

    Raises:
        DatasetError: there is no such data set; the message names the nearest one.
    """
    if name in DATASETS:
        return DATASETS[name]
    nearest = difflib.get_close_matches(name, DATASETS, n=1)
    hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
    raise DatasetError(f"Unknown data set {name!r}.", f"{hint}Known data sets: {', '.join(DATASETS)}.")
