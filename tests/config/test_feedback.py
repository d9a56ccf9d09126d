"""The rules of the baselines' keys."""

import pytest

from hepcli.config import config_hash, load_config
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
    assert text.endswith(f"needs equal optimizer.{table} for l2-l1 and l1-l2")
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


def test_the_strength_of_each_feedback_connection():
    factors = ["network.feedback_strength=0.5", "network.feedback_strength_multipliers={out-l2=0.2}"]
    network = load_config("quickstart", factors).config.network
    strengths = {name: network.strength(name) for name in network.connections}
    assert strengths == {"in-l1": 1, "l1-l2": 1, "l2-l1": 0.5, "l2-out": 1, "out-l2": 0.1}


def test_only_feedback_has_a_strength():
    key = "network.feedback_strength_multipliers"
    text = message("quickstart", f"{key}={{l1-l2=1.0, l2-l9=2.0}}")
    rule = "the network has no feedback connection"
    assert f"{key}.l1-l2 = 1.0: {rule} l1-l2; feedback connections are l2-l1, out-l2" in text
    assert f"{key}.l2-l9 = 2.0: {rule} l2-l9; did you mean l2-l1?" in text
    assert message("quickstart", f"{key}={{out-l2=-1}}") == f"{key}.out-l2 = -1: must be at least 0"


def test_the_order_of_strengths_changes_no_hash():
    key = "network.feedback_strength_multipliers"
    one, other = (
        load_config("quickstart", [f"{key}={{{text}}}"]).config
        for text in ("out-l2=0.5, l2-l1=0.1", "l2-l1=0.1, out-l2=0.5")
    )
    assert config_hash(one) == config_hash(other) != config_hash(load_config("quickstart").config)


def test_the_ways_feedback_learns():
    assert message("quickstart", "optimizer.feedback_learning=fixd").endswith(
        "must be one of gradient, kolen_pollack, fixed; did you mean fixed?"
    )
