"""Every part that a setting may name is there, and is what its kind is."""

import pytest

from hepcli import settings
from hepcli.engine import Estimator
from hepcli.settings import MEASURES, Parts

PARTS = [value for value in vars(settings).values() if isinstance(value, Parts)]


@pytest.mark.parametrize("parts", PARTS, ids=lambda parts: parts.kind)
def test_every_part_can_be_loaded(parts):
    assert parts
    for name in parts:
        assert parts[name] is not None
        assert not parts.is_own(name)


def test_estimators_say_what_they_are():
    assert settings.TRAITS.keys() == settings.ESTIMATORS.keys()
    for name, estimator in settings.ESTIMATORS.items():
        assert isinstance(estimator, Estimator), name
        assert (estimator.error_signal is None) <= (estimator.nudged_phases is None), name
        assert estimator.has_free_phase or estimator.error_signal is None, name


@pytest.mark.parametrize("measure", MEASURES.values(), ids=lambda measure: measure.key)
def test_every_measure_is_computed_somewhere(measure):
    assert callable(measure.function)


def test_parts_of_ones_own():
    parts = Parts("thing", {"dumps": "json:dumps"})
    assert parts["dumps"]([1]) == "[1]"
    parts["own"] = len
    assert list(parts) == ["dumps", "own"]
    assert parts["own"] is len
    assert [name for name in parts if parts.is_own(name)] == ["own"]
    del parts["own"]
    assert "own" not in parts
    with pytest.raises(KeyError):
        parts["nothing"]
