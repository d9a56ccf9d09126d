"""Baselines of feedback: Kolen–Pollack learning and fixed feedback."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from hepcli.networks import copy_gradients
from hepcli.training import epoch_steps

from . import tiny

STEPS = 10


def train(settings, learning):
    step = tiny.make_step(learning, settings)
    state = tiny.start(settings)
    for done in epoch_steps(step, state, tiny.feed(10), np.arange(10), 1):
        state = done.state
    return jax.tree.map(np.asarray, state.params)


def apart(params):
    return params["out-l1"]["kernel"] - params["l1-out"]["kernel"].T


@pytest.mark.parametrize("method", ["hep", "hep_exact", "asymep", "bptt"])
def test_kolen_pollack_kernels_approach_each_other_as_fast_as_they_decay(method):
    """Their difference shrinks by 1 − learning rate · decay a step, whatever the gradient is."""
    settings = replace(tiny.SGD, momentum=0.0, weight_decay=0.3)
    copies = partial(copy_gradients, pairs=tiny.NETWORK.pairs)
    learned = train(settings, tiny.learning(method)._replace(change_gradient=copies))
    start = jax.tree.map(np.asarray, tiny.params())
    expected = (1 - 0.1 * 0.3) ** STEPS * apart(start)
    np.testing.assert_allclose(apart(learned), expected, rtol=2e-5, atol=2e-6)
    assert np.abs(learned["out-l1"]["kernel"] - start["out-l1"]["kernel"]).max() > 1e-3


def test_homeostasis_adds_its_own_to_copied_gradients():
    """The homeostatic loss pulls both kernels together: they come closer than by decay alone."""
    settings = replace(tiny.SGD, momentum=0.0, weight_decay=0.3)
    copies = partial(copy_gradients, pairs=tiny.NETWORK.pairs)
    sizes = [
        np.linalg.norm(apart(train(settings, tiny.learning(weight=weight)._replace(change_gradient=copies))))
        for weight in (0.0, 0.5)
    ]
    assert sizes[1] < 0.98 * sizes[0]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_fixed_feedback_stays_bit_for_bit(name):
    settings = replace(tiny.SGD, name=name, weight_decay=0.1, learning_rate_multipliers={"out-l1": 0.0})
    learned = train(settings, tiny.learning(weight=0.5))
    start = jax.tree.map(np.asarray, tiny.params())
    np.testing.assert_array_equal(learned["out-l1"]["kernel"], start["out-l1"]["kernel"])
    assert np.abs(learned["l1-out"]["kernel"] - start["l1-out"]["kernel"]).max() > 1e-3
