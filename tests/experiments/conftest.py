"""What the tests of experiments share."""

import dataclasses
import shutil

import numpy as np
import pytest

from hepcli.data import Split
from hepcli.data._bundled import load_bundled
from hepcli.experiments.train import Finished
from hepcli.settings import DATASETS

from .runs import run

SMALL = (
    "network.layers.l1.units=16",
    "network.layers.l2.units=12",
    "relaxation.free_steps=12",
    "relaxation.nudged_steps=4",
    "data.batch_size=100",
    "data.eval_batch_size=300",
    "optimizer.schedule=constant",  # the only one under which a prolonged run is one of that length
)


@pytest.fixture
def small_data(monkeypatch):
    """Every data set is 1,000 training and 200 test images of the bundled one, or colour images of noise."""

    bundled = DATASETS["fashion_mnist_mini"], DATASETS["fashion_mnist_mini"].source

    def load(name, split, data_dir=None):
        full = load_bundled(*bundled, split)
        keep = 1000 if split == "train" else 200
        if "mnist" not in name:
            images = np.random.default_rng(keep).integers(0, 256, (keep, 32, 32, 3), np.uint8)
            return Split(images, full.labels[:keep], 100 if name == "cifar100" else 10)
        return Split(full.images[:keep], full.labels[:keep], full.num_classes)

    monkeypatch.setattr("hepcli.experiments.task.load_split", load)
    for name, spec in DATASETS.items():
        small = dataclasses.replace(spec, num_examples={"train": 1000, "test": 200})
        monkeypatch.setitem(DATASETS, name, small)


@pytest.fixture(autouse=True)
def _curves_where_asked(request, monkeypatch):
    """Drawing takes longer than training the small network: only tests marked `draws` do."""
    if "draws" not in request.keywords:
        monkeypatch.setattr("hepcli.experiments.run.Run._draw", lambda run: ())


@pytest.fixture
def small():
    """--set values of a network that trains in no time."""
    return SMALL


@pytest.fixture(scope="session")
def finished_runs(tmp_path_factory):
    """Where the one finished run of the session lies, once a test has trained it."""
    return tmp_path_factory.mktemp("finished") / "run"


@pytest.fixture
def whole_run(tmp_path, small, finished_runs):
    """A finished run of the small network; trained once, copied for each test."""
    if not finished_runs.exists():
        assert isinstance(run(finished_runs, small)[-1], Finished)
    return shutil.copytree(finished_runs, tmp_path / "whole")
