"""Fashion-MNIST, whole and in the small form that ships with the package."""

from hepcli.data._idx import IdxPairs
from hepcli.data._spec import Archives, Bundled, DatasetSpec

_PAIRS = IdxPairs(
    {
        "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
        "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
    }
)

FASHION_MNIST = DatasetSpec(
    name="fashion_mnist",
    image_shape=(28, 28, 1),
    num_classes=10,
    num_examples={"train": 60_000, "test": 10_000},
    source=Archives(
        tfds_name="fashion_mnist",
        filenames=tuple(name for pair in _PAIRS.filenames.values() for name in pair),
        read_blocks=_PAIRS,
    ),
)

FASHION_MNIST_MINI = DatasetSpec(
    name="fashion_mnist_mini",
    image_shape=(28, 28, 1),
    num_classes=10,
    num_examples={"train": 5_000, "test": 1_000},
    source=Bundled(resource="fashion_mnist_mini.npz", parent="fashion_mnist"),
)
