"""Optimisers against formulas written out."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hepcli.settings import SCHEDULES, OptimizerSettings
from hepcli.training import build_optimizer

STEPS = 4


def trees():
    """Parameters and one gradient per step, float32."""
    rng = np.random.default_rng(0)
    shapes = {"in-l1": {"kernel": (3, 2), "bias": (2,)}, "readout": {"kernel": (2, 2), "bias": (2,)}}

    def draw():
        return {
            name: {leaf: rng.standard_normal(shape).astype(np.float32) for leaf, shape in leaves.items()}
            for name, leaves in shapes.items()
        }

    return draw(), [draw() for _ in range(STEPS)]


def run(settings: OptimizerSettings | optax.GradientTransformation):
    optimizer = build_optimizer(settings, STEPS) if isinstance(settings, OptimizerSettings) else settings
    params, gradients = trees()
    params = jax.tree.map(jnp.asarray, params)
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for gradient in gradients:
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def assert_close(ours, theirs):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), ours, dict(theirs))


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("multipliers", [{}, {"readout": 5.0, "in-l1": 0.5}])
def test_sgd_with_momentum_and_l2_by_hand(momentum, nesterov, schedule, multipliers):
    """v ← m v + g + λp and p ← p − ηv, the gradient of ½λ‖p‖² passing through the momentum.

    Nesterov's follows the gradient and the velocity it has just made: p ← p − η(m v + g + λp).
    """
    decays = {"readout": 2.0} if multipliers else {}
    settings = OptimizerSettings("sgd", 0.05, schedule, momentum, nesterov, 0.1, multipliers, decays)
    params, gradients = trees()
    for name, weights in params.items():
        for leaf in weights:
            velocity = 0.0
            for step, gradient in enumerate(gradients):
                rate = 0.05 * (1 if schedule == "constant" else (1 + np.cos(np.pi * step / STEPS)) / 2)
                pull = gradient[name][leaf] + 0.1 * decays.get(name, 1.0) * weights[leaf]
                velocity = momentum * velocity + pull
                ahead = momentum * velocity + pull if nesterov else velocity
                weights[leaf] = weights[leaf] - rate * multipliers.get(name, 1.0) * ahead
    assert_close(run(settings), params)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adamw_is_optax_adamw(weight_decay):
    settings = OptimizerSettings("adamw", 1e-2, "constant", 0.9, False, weight_decay, {}, {})
    assert_close(run(settings), run(optax.adamw(1e-2, weight_decay=weight_decay)))


def test_adamw_multipliers_scale_the_whole_update_and_the_decay():
    settings = OptimizerSettings("adamw", 1e-2, "constant", 0.9, False, 0.1, {"readout": 3.0}, {"in-l1": 0.0})
    found = run(settings)
    assert_close(found["readout"], run(optax.adamw(3e-2, weight_decay=0.1))["readout"])
    assert_close(found["in-l1"], run(optax.adamw(1e-2, weight_decay=0.0))["in-l1"])


def test_a_multiplier_of_0_freezes_a_connection():
    settings = OptimizerSettings("sgd", 0.05, "constant", 0.9, False, 0.1, {"in-l1": 0.0}, {})
    found, (before, _) = run(settings), trees()
    jax.tree.map(np.testing.assert_array_equal, found["in-l1"], before["in-l1"])
    assert not np.array_equal(found["readout"]["kernel"], before["readout"]["kernel"])


def test_cosine_falls_to_0_over_all_steps():
    rates = [float(SCHEDULES["cosine"](0.3, 100)(step)) for step in (0, 50, 100, 120)]
    np.testing.assert_allclose(rates, [0.3, 0.15, 0.0, 0.0], atol=1e-8)


@pytest.mark.parametrize("changed", [{"name": "lion"}, {"schedule": "linear"}])
def test_unknown_names_are_key_errors(changed):
    settings = OptimizerSettings("sgd", 0.1, "constant", 0.9, False, 0.0, {}, {})
    with pytest.raises(KeyError):
        build_optimizer(replace(settings, **changed), 10)
