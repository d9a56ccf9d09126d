import pytest

import hepcli
from hepcli import settings

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


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    """Forgets the parts of one's own that a test registers."""
    monkeypatch.setattr("hepcli.code._loaded", {})
    kinds = [own for own in vars(settings).values() if isinstance(own, settings.Parts)]
    before = [set(parts) for parts in kinds]
    yield
    for parts, names in zip(kinds, before, strict=True):
        for name in set(parts) - names:
            del parts[name]
            settings.NOT_HOLOMORPHIC.discard(name)
