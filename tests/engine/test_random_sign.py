"""A single nudge of random sign: right on average where the two signs together are."""

import jax
import numpy as np
import pytest

from hepcli.engine import estimate
from hepcli.engine._problem import nudge_sign
from hepcli.settings import GradientSettings

from .cases import CASES, distance, make_problem, on_arrays

METHODS = pytest.mark.parametrize("method", ["hep", "asymep", "contrastive_ep"])


def gradient_of(method, settings, key=None):
    problem = make_problem(CASES["layered_symmetric"], method)._replace(gradient=settings, key=key)
    return on_arrays(lambda own: estimate(own).gradient, problem)


@METHODS
def test_both_signs_together_are_the_centred_difference(method):
    random = GradientSettings(method, 1, 0.3, beta_sign="random")
    plus = gradient_of(method, GradientSettings(method, 1, 0.3))
    drawn = [gradient_of(method, random, jax.random.key(seed)) for seed in range(6)]
    others = [g for g in drawn if distance(g, plus) > 1e-6]
    assert 0 < len(others) < len(drawn)
    assert all(distance(g, plus) < 1e-12 for g in drawn if distance(g, plus) <= 1e-6)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, plus, others[0])
    assert distance(mean, gradient_of(method, GradientSettings(method, 2, 0.3))) < 1e-12


def test_the_sign_is_drawn_evenly_and_needs_a_key():
    problem = make_problem(CASES["loop"])._replace(gradient=GradientSettings("hep", 1, beta_sign="random"))
    signs = [float(nudge_sign(problem._replace(key=jax.random.key(seed)))) for seed in range(200)]
    assert set(signs) == {-1.0, 1.0}
    assert abs(np.mean(signs)) < 0.2
    with pytest.raises(ValueError, match="needs a key"):
        nudge_sign(problem)
