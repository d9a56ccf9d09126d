import pytest
from hepcli.data import Split, load_split

SMALL = (
    "network.layers.l1.units=16",
    "network.layers.l2.units=12",
    "relaxation.free_steps=12",
    "relaxation.nudged_steps=4",
    "data.batch_size=100",
    "data.eval_batch_size=300",
)


@pytest.fixture
def small_data(monkeypatch):
    """Every data set is 1,000 training and 200 test images of the bundled one."""

    def load(name, split, data_dir=None):
        full = load_split("fashion_mnist_mini", split)
        keep = 1000 if split == "train" else 200
        return Split(full.images[:keep], full.labels[:keep], full.num_classes)

    monkeypatch.setattr("hepcli.experiments.train.load_split", load)
    monkeypatch.setattr("hepcli.experiments.evaluate.load_split", load)


@pytest.fixture
def small():
    """--set values of a network that trains in no time."""
    return SMALL
