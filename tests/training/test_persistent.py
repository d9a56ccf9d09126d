"""Free phases that go on from where those of the same examples ended."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from hepcli.engine import Problem, free_phase
from hepcli.training import build_optimizer, fresh_memory, init_state, scale_pixels

from . import tiny

STEPS = 4
STILL = replace(tiny.SGD, learning_rate=0.0)


def start(examples=10):
    memory = fresh_memory(tiny.NETWORK, (2, 2, 1), examples)
    return init_state(tiny.params(), build_optimizer(STILL, 10), memory)


@pytest.mark.parametrize("method", ["hep", "bptt"])
def test_visits_add_up_to_one_long_free_phase(method):
    """With weights that do not change, three visits of a few steps are one of three times as many."""
    settings = tiny.learning(method)
    settings = settings._replace(relaxation=replace(settings.relaxation, free_steps=STEPS))
    step = tiny.make_step(settings, STILL)
    state = start()
    for _ in range(3):
        for rows in (np.arange(0, 6), np.arange(6, 10)):
            state, _ = step(state, *tiny.batch(None, rows))
    problem = Problem(
        tiny.NETWORK,
        tiny.params(),
        scale_pixels(tiny.split(10)[0]),
        np.eye(3)[np.zeros(10, int)],
        replace(settings.relaxation, free_steps=3 * STEPS),
    )
    expected = jax.jit(lambda p: free_phase(problem._replace(params=p)).phase.state)(problem.params)
    for name, u in expected.items():
        np.testing.assert_allclose(state.memory[name], u, rtol=1e-5, atol=1e-6)


def test_an_example_remembers_its_own_state_only():
    step = tiny.make_step(tiny.learning(), STILL)
    state, _ = step(start(), *tiny.batch(None, np.array([7, 2])))
    for last in state.memory.values():
        seen = np.any(np.asarray(last) != 0, axis=1)
        assert np.flatnonzero(seen).tolist() == [2, 7]
