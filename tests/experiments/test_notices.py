"""What is said of a gradient before a run: which layers it does not come to."""

import jax
import jax.numpy as jnp
import pytest

from hepcli.config import load_config
from hepcli.engine import Problem, estimate
from hepcli.experiments.notices import method_notices
from hepcli.experiments.sweeps.definition import SweepRequest
from hepcli.experiments.sweeps.plan import plan
from hepcli.networks import build_network

CHAIN = ("in-l1", "l1-l2", "l2-l3", "l3-out", "l2-l1", "l3-l2", "out-l3")
FEW = "relaxation.nudged_steps=3"


def unreached(connections, overrides):
    """The layers that notices name, and those whose kernels have no gradient at all."""
    layers = [f"{name}={{kind='dense',units=3}}" for name in ("l1", "l2", "l3", "out")]
    network = [f"network.layers={{{','.join(layers)}}}", f"network.connections={[*connections]}"]
    config = load_config("quickstart", [*network, "relaxation.free_steps=20", *overrides]).config
    built = build_network(config.network, (5,), 2)
    params = built.init(jax.random.key(0))
    inputs, targets = jax.random.normal(jax.random.key(1), (4, 5)), jnp.eye(2)[jnp.arange(4) % 2]

    @jax.jit
    def gradient_of(params):
        problem = Problem(built, params, inputs, targets, config.relaxation, config.gradient)
        return estimate(problem).gradient

    gradient = gradient_of(params)
    learned = {name.partition("-")[2] for name in connections if jnp.any(gradient[name]["kernel"])}
    said = [notice for notice in method_notices(config) if "error signal" in notice]
    named = {name for name in config.network.layers for notice in said if f" {name}," in notice}
    return named, {*config.network.layers} - learned


@pytest.mark.parametrize(
    ("connections", "overrides", "layers"),
    [
        (CHAIN, ("gradient.method=hep", FEW), {"l1"}),
        (CHAIN, ("gradient.method=hep", "relaxation.order=sequential", "relaxation.nudged_steps=5"), {"l1"}),
        (CHAIN, ("gradient.method=hep_exact", "relaxation.solver=synchronous", FEW), {"l1"}),
        (CHAIN, ("gradient.method=rbp", "gradient.adjoint_steps=2"), {"l1"}),
        (CHAIN, ("gradient.method=neumann_rbp", "gradient.adjoint_steps=2"), {"l1"}),
        (CHAIN, ("gradient.method=bptt", "relaxation.nudged_steps=2"), {"l1"}),
        (CHAIN[:4] + CHAIN[5:], ("gradient.method=asymep", FEW), {"l1"}),
        (CHAIN[:4] + CHAIN[5:], ("gradient.method=hep",), {"l1"}),
        (CHAIN, ("gradient.method=hep", "network.feedback_strength_multipliers={l3-l2=0.0}"), {"l1", "l2"}),
        (CHAIN[:4], ("gradient.method=bptt",), set()),
        (CHAIN[:4], ("gradient.method=dual_propagation", "relaxation.nudged_steps=1"), set()),
    ],
)
def test_layers_that_learn_nothing_are_named(connections, overrides, layers):
    named, without = unreached(connections, overrides)
    assert named == without
    assert without >= layers


def test_a_sweep_says_it_before_it_trains(tmp_path):
    request = SweepRequest(
        preset="quickstart", vary=("relaxation.nudged_steps=1,20",), seeds="0-1", out=tmp_path / "sweep"
    )
    (note,) = plan(request).notes
    assert "the error signal needs 3 from out to l1" in note
    assert note.endswith("The same is true of 1 other run.")
