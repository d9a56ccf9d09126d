"""Activations: holomorphic, as published, finite everywhere they should be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.networks import dsilu, logistic, looks_holomorphic, sigmoid
from hepcli.networks._activations import make_activation
from hepcli.settings import ACTIVATIONS, NOT_HOLOMORPHIC, is_holomorphic

HOLOMORPHIC = [name for name in ACTIVATIONS if name not in NOT_HOLOMORPHIC]
CEILINGS = {"hard_sigmoid": 1.0, "relu6": 6.0, "clipped_relu(2.5)": 2.5}

POINTS = np.array([0.3 + 0.2j, -1.1 + 0.4j, 2.5 - 0.3j, 0.5 + 0.0j, -0.2 - 0.6j])


@pytest.mark.parametrize("name", HOLOMORPHIC)
def test_cauchy_riemann(name):
    """∂u/∂x = ∂v/∂y and ∂u/∂y = −∂v/∂x, with derivatives by JAX along both axes."""
    with jax.enable_x64(True):

        def real_form(x, y):
            value = ACTIVATIONS[name](jax.lax.complex(x, y))
            return jnp.real(value), jnp.imag(value)

        x, y = jnp.asarray(POINTS.real), jnp.asarray(POINTS.imag)
        one, zero = jnp.ones_like(x), jnp.zeros_like(x)
        _, (u_x, v_x) = jax.jvp(real_form, (x, y), (one, zero))
        _, (u_y, v_y) = jax.jvp(real_form, (x, y), (zero, one))
        np.testing.assert_allclose(u_x, v_y, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(u_y, -v_x, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", HOLOMORPHIC)
def test_complex_values_continue_the_real_ones(name):
    with jax.enable_x64(True):
        function, real = ACTIVATIONS[name], jnp.linspace(-6, 6, 101)
        on_axis = function(real.astype(complex))
        np.testing.assert_allclose(on_axis.real, function(real), rtol=1e-14)
        assert np.all(np.asarray(on_axis.imag) == 0)
        mirrored = function(jnp.asarray(POINTS.conj()))
        np.testing.assert_allclose(mirrored, np.conj(function(jnp.asarray(POINTS))), rtol=1e-14)


def test_the_published_formulas():
    with jax.enable_x64(True):
        z = jnp.asarray(POINTS)
        np.testing.assert_allclose(sigmoid(z), 1 / (1 + np.exp(-4 * POINTS + 2)), rtol=1e-13)
        expected = POINTS / 2 / (1 + np.exp(-POINTS)) + (1 - POINTS / 2) / (1 + np.exp(2 - POINTS))
        np.testing.assert_allclose(dsilu(z), expected, rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.complex64, np.float64, np.complex128])
def test_logistic_does_not_overflow(dtype):
    with jax.enable_x64(True):
        z = jnp.asarray([-1000, -100, 0, 100, 1000], dtype)
        value = np.asarray(logistic(z))
        assert value.dtype == dtype
        np.testing.assert_allclose(value, [0, 0, 0.5, 1, 1], rtol=1e-6, atol=1e-30)
        _, slope = jax.jvp(logistic, (z,), (jnp.ones_like(z),))
        np.testing.assert_allclose(slope, [0, 0, 0.25, 0, 0], rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("name", HOLOMORPHIC)
@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_precision_is_kept_and_large_arguments_stay_finite(name, dtype):
    value = ACTIVATIONS[name](jnp.asarray([-1000, -1, 1, 1000], dtype))
    assert value.dtype == dtype
    assert np.isfinite(np.asarray(value)).all()


def test_softplus_and_tanh():
    with jax.enable_x64(True):
        z = jnp.asarray(POINTS)
        np.testing.assert_allclose(ACTIVATIONS["softplus"](z), np.log(1 + np.exp(POINTS)), rtol=1e-13)
        np.testing.assert_allclose(ACTIVATIONS["tanh"](z), np.tanh(POINTS), rtol=1e-13)


@pytest.mark.parametrize(("name", "ceiling"), CEILINGS.items())
def test_clipped_rectifiers(name, ceiling):
    sigma, z = make_activation(name), jnp.linspace(-3, 9, 25)
    value, slope = jax.jvp(sigma, (z,), (jnp.ones_like(z),))
    np.testing.assert_array_equal(value, np.minimum(np.maximum(z, 0), ceiling))
    np.testing.assert_array_equal(slope, (z > 0) & (z < ceiling))
    assert not np.isfinite(sigma(jnp.asarray(np.nan)))
    with pytest.raises(ValueError, match="real states only"):
        sigma(z.astype(complex))


HOLOMORPHIC_FUNCTIONS = (
    jnp.sin,
    jnp.exp,
    lambda z: jnp.tanh(20 * z),
    lambda z: z / jnp.sqrt(1 + z * z),
    lambda z: 0 * z + 1,
)
REAL_ONLY = (
    lambda z: z / (1 + jnp.abs(z)),
    lambda z: jnp.minimum(jnp.maximum(z, 0), 1),
    lambda z: jnp.where(z.real > 0.37, z, 0.37),
    lambda z: jnp.tanh(z.real),
    lambda z: jax.lax.max(z, jnp.float32(0)),  # takes no complex numbers
    lambda z: jnp.conj(jnp.tanh(z)),  # equals its mean, as harmonic functions do
    lambda z: jnp.tanh(z).real,
)


@pytest.mark.parametrize("function", HOLOMORPHIC_FUNCTIONS)
def test_a_holomorphic_function_is_a_power_series_on_small_circles(function):
    assert looks_holomorphic(function)


@pytest.mark.parametrize("function", REAL_ONLY)
def test_kinks_and_conjugates_show_on_small_circles(function):
    assert not looks_holomorphic(function)


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "clipped_relu"])
def test_the_activations_of_hep_are_what_they_are_called(name):
    assert looks_holomorphic(ACTIVATIONS[name]) == is_holomorphic(name)
