"""The Cauchy sum on functions whose derivative is known."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepcli.engine import cauchy_derivative, circle_points

few = settings(derandomize=True, max_examples=50, deadline=None, database=None)
coefficients = st.lists(st.floats(-10, 10), min_size=2, max_size=9)


def estimate(function, num_points: int, radius: float) -> float:
    real, upper = circle_points(num_points, radius)
    at_real = function(real) - (function(0.0) if num_points == 1 else 0.0)
    at_upper = jnp.asarray(function(upper)) if len(upper) else None
    return float(cauchy_derivative(jnp.asarray(at_real), at_upper, num_points, radius))


@few
@given(coefficients, st.floats(0.1, 2.0))
def test_exact_on_polynomials_up_to_the_number_of_points(coefficients, radius):
    function = np.polynomial.Polynomial(coefficients)
    num_points = len(coefficients) - 1
    size = sum(abs(c) * radius**k for k, c in enumerate(coefficients)) / radius
    assert estimate(function, num_points, radius) == pytest.approx(coefficients[1], abs=1e-13 * size)


@few
@given(st.integers(1, 9), st.floats(0.1, 2.0), st.floats(-10, 10))
def test_the_first_power_it_gets_wrong_is_one_above(num_points, radius, coefficient):
    def function(beta):
        return 3 * beta + coefficient * beta ** (num_points + 1)

    expected = 3 + coefficient * radius**num_points
    assert estimate(function, num_points, radius) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("num_points", range(1, 10))
def test_equals_the_complex_sum_over_the_full_circle(num_points):
    circle = 0.3 * np.exp(2j * np.pi * np.arange(num_points) / num_points)
    rest = np.exp(0) if num_points == 1 else 0.0
    expected = np.mean((np.exp(circle) - rest) / circle)
    assert abs(expected.imag) < 1e-15
    assert estimate(np.exp, num_points, 0.3) == pytest.approx(expected.real, rel=1e-13)


@pytest.mark.parametrize("num_points", range(1, 10))
def test_the_points_and_their_conjugates_make_up_the_circle(num_points):
    real, upper = circle_points(num_points, 0.5)
    assert np.isrealobj(real)
    assert (upper.imag > 0).all()
    whole = np.concatenate([real, upper, upper.conj()])
    expected = 0.5 * np.exp(2j * np.pi * np.arange(num_points) / num_points)
    np.testing.assert_allclose(np.sort_complex(whole.round(12)), np.sort_complex(expected.round(12)))


def test_one_point_is_the_one_sided_difference():
    assert estimate(np.exp, 1, 0.1) == pytest.approx((np.exp(0.1) - 1) / 0.1, rel=1e-14)


def test_two_points_are_the_centred_difference():
    assert estimate(np.exp, 2, 0.1) == pytest.approx((np.exp(0.1) - np.exp(-0.1)) / 0.2, rel=1e-14)
