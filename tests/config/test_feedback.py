"""The rules of the baselines' keys."""

import pytest

from hepcli.config import load_config
from hepcli.errors import ConfigError

KOLEN_POLLACK = ("optimizer.feedback_learning=kolen_pollack", "optimizer.weight_decay=1e-3")


def message(preset, *overrides):
    with pytest.raises(ConfigError) as caught:
        load_config(preset, overrides)
    return caught.value.what


def test_kolen_pollack_is_allowed_where_its_kernels_can_meet():
    config = load_config("fashion-mnist", KOLEN_POLLACK).config
    assert config.optimizer.feedback_learning == "kolen_pollack"


def test_kolen_pollack_without_decay_would_never_align():
    assert message("fashion-mnist", KOLEN_POLLACK[0]) == (
        'optimizer.feedback_learning = "kolen_pollack": needs optimizer.weight_decay above 0, which aligns '
        "the kernels"
    )


def test_kolen_pollack_needs_a_partner_for_all_feedback():
    assert message("fashion-mnist-loop", *KOLEN_POLLACK).endswith(
        "out-l1 has no forward partner to learn from"
    )


@pytest.mark.parametrize("table", ["learning_rate_multipliers", "weight_decay_multipliers"])
def test_kolen_pollack_needs_equal_multipliers(table):
    text = message("fashion-mnist", *KOLEN_POLLACK, f"optimizer.{table}={{l2-l1=2.0}}")
    assert text.endswith(f"needs equal optimizer.{table} of l2-l1 and l1-l2")
    load_config("fashion-mnist", [*KOLEN_POLLACK, f"optimizer.{table}={{l2-l1=2.0, l1-l2=2.0}}"])


def test_all_that_is_wrong_is_said_at_once():
    text = message("fashion-mnist-loop", KOLEN_POLLACK[0], "optimizer.learning_rate_multipliers={nn=1.0}")
    assert "no connection nn" in text
    assert "weight_decay" in text
    assert "out-l1" in text


@pytest.mark.parametrize("key", ["network.feedback_strength", "relaxation.noise_std"])
def test_negative_factors_and_spreads_are_refused(key):
    assert message("quickstart", f"{key}=-0.1") == f"{key} = -0.1: must be at least 0"
    load_config("quickstart", [f"{key}=0"])


def test_the_ways_feedback_learns():
    assert message("quickstart", "optimizer.feedback_learning=fixd").endswith(
        "must be one of gradient, kolen_pollack, fixed; did you mean fixed?"
    )
