"""Rules that contrast states, and nudges of random sign: what they ask of a configuration."""

import pytest

from hepcli.config import load_config
from hepcli.errors import ConfigError

NO_READOUT = ("network.readout=false", "network.loss=squared_error")


def message(preset, *overrides):
    with pytest.raises(ConfigError) as caught:
        load_config(preset, overrides)
    return caught.value.what


@pytest.mark.parametrize("method", ["contrastive_hebbian", "coupled_learning"])
def test_clamping_needs_an_output_that_is_the_scores(method):
    assert f"{method} clamps layer out to the targets" in message("quickstart", f"gradient.method={method}")
    assert load_config("quickstart", [f"gradient.method={method}", *NO_READOUT])


def test_no_output_is_clamped_beyond_the_targets():
    for method, allowed in (("coupled_learning", False), ("contrastive_hebbian", True)):
        overrides = [f"gradient.method={method}", "gradient.beta_radius=1.5", *NO_READOUT]
        if allowed:
            load_config("quickstart", overrides)
        else:
            assert "must be at most 1 with coupled_learning" in message("quickstart", *overrides)


def test_contrasts_need_connections_both_ways():
    text = message("fashion-mnist-loop", "gradient.method=contrastive_ep", "homeostasis.weight=0")
    for connection in ("l1-l2", "l2-out", "out-l1"):
        assert f'network.connections = "{connection}": there is no connection back' in text
    load_config("fashion-mnist", ["gradient.method=contrastive_ep"])


@pytest.mark.parametrize("method", ["hep", "asymep", "contrastive_ep"])
def test_one_nudge_may_have_a_random_sign(method):
    random = [f"gradient.method={method}", "gradient.beta_sign=random"]
    load_config("quickstart", [*random, "gradient.num_points=1"])
    rule = "needs gradient.num_points = 1: 2 nudges cancel the first-order error anyway"
    assert message("quickstart", *random) == f'gradient.beta_sign = "random": {rule}'


def test_a_random_sign_needs_a_nudge():
    text = message("quickstart", "gradient.method=bptt", "gradient.beta_sign=random", "gradient.num_points=1")
    rule = "applies only to estimators that nudge on a circle, and bptt does not"
    assert text == f'gradient.beta_sign = "random": {rule}'
    text = message("quickstart", "gradient.method=online_hep", "gradient.beta_sign=random")
    assert text.endswith("must be positive: online_hep needs gradient.num_points of at least 2")
