import pytest

import hepcli

TINY = {
    "network.layers.l1.units": 16,
    "network.layers.l2.units": 12,
    "relaxation.free_steps": 12,
    "relaxation.nudged_steps": 4,
    "data.batch_size": 500,
}


@pytest.fixture(scope="session")
def tiny():
    """Overrides of a network that trains in no time."""
    return TINY


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of a finished run of one epoch."""
    return hepcli.train("quickstart", TINY, tmp_path_factory.mktemp("api") / "run", epochs=1).folder
