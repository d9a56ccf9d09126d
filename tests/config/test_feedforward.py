"""Feed-forward methods: what a configuration must not ask of a network without feedback."""

import pytest

from hepcli.config import load_config
from hepcli.errors import ConfigError

METHOD = "gradient.method=feedforward"


def message(*overrides):
    with pytest.raises(ConfigError) as caught:
        load_config("quickstart", [METHOD, *overrides])
    return caught.value.what


def test_it_needs_nothing_else():
    assert load_config("quickstart", [METHOD]).config.gradient.method == "feedforward"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("homeostasis.weight=0.5", "homeostasis.weight = 0.5: feedforward leaves out the feedback"),
        ("optimizer.feedback_learning=fixed", "feedforward leaves out feedback"),
        ("relaxation.persistent_state=true", "feedforward has no free phase; set it to false"),
        (
            'network.connections=["in-l1", "l1-out", "in-out", "out-l2", "l2-l1"]',
            "network.layers.l2: no path of connections leads from in to l2 without feedback",
        ),
    ],
)
def test_what_needs_feedback_is_refused(override, said):
    assert said in message(override)


def test_every_fault_is_said_at_once():
    said = message("homeostasis.weight=0.5", "optimizer.feedback_learning=fixed")
    assert "homeostasis.weight" in said
    assert "optimizer.feedback_learning" in said
