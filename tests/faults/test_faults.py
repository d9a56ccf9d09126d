"""The small campaign of faults; `python -m tests.faults --full` is the whole one."""

import pytest

from .campaign import KINDS, Fault, tried
from .commands import Commands
from .workshop import Workshop


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    with Commands(folder) as commands:
        yield Workshop(commands, folder)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "moment"), [(kind, n) for kind in KINDS for n in KINDS[kind].small])
def test_nothing_is_lost(shop, tmp_path, kind, moment):
    outcome = tried(shop, kind, moment, tmp_path)
    assert not isinstance(outcome, Fault), str(outcome)
