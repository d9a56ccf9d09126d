"""MNIST and its family: Kuzushiji-MNIST, and Fashion-MNIST, which in a small form ships with the package."""

from hepcli.data._idx import IdxPairs
from hepcli.data._spec import Archives, Bundled, DatasetSpec

_PAIRS = IdxPairs(
    {
        "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
        "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
    }
)


def _of_the_family(name: str) -> DatasetSpec:
    return DatasetSpec(
        name=name,
        image_shape=(28, 28, 1),
        num_classes=10,
        num_examples={"train": 60_000, "test": 10_000},
        source=Archives(
            tfds_name=name,
            filenames=tuple(name for pair in _PAIRS.filenames.values() for name in pair),
            read_blocks=_PAIRS,
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
