"""Softmax pooling: the formula, its derivative, holomorphy, and large values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.networks._pooling import pooled_size, softmax_pool, softmax_pool_pullback

WINDOWS = [(2, 2), (3, 2), (2, 1), (1, 1), (3, 4)]


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def values(imaginary=0.3, shape=(2, 7, 6, 3)):
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape) + 1j * imaginary * rng.standard_normal(shape)


def naive(v, size, stride, temperature):
    rows, columns = ((length - size) // stride + 1 for length in v.shape[1:3])
    out = np.zeros((len(v), rows, columns, v.shape[3]), v.dtype)
    for i in range(rows):
        for j in range(columns):
            window = v[:, i * stride : i * stride + size, j * stride : j * stride + size]
            weights = np.exp(window / temperature)
            out[:, i, j] = (weights * window).sum(axis=(1, 2)) / weights.sum(axis=(1, 2))
    return out


@pytest.mark.parametrize(("size", "stride"), WINDOWS)
@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_the_formula_for_real_and_complex_values(size, stride, temperature):
    for v in (values(), values().real):
        found = softmax_pool(jnp.asarray(v), size, stride, temperature)
        np.testing.assert_allclose(found, naive(v, size, stride, temperature), rtol=1e-12)
        assert found.shape[1:3] == tuple(pooled_size(n, size, stride) for n in v.shape[1:3])


@pytest.mark.parametrize(("size", "stride"), WINDOWS)
def test_cauchy_riemann(size, stride):
    """The derivative along i is i times the derivative along 1, for the pooling and its pullback."""
    v, w = values(shape=(1, 5, 4, 2)), values(shape=(1, *(pooled_size(n, size, stride) for n in (5, 4)), 2))
    direction = values(shape=v.shape).real

    for function in (
        lambda z: softmax_pool(z, size, stride, 0.7),
        lambda z: softmax_pool_pullback(z, jnp.asarray(w), size, stride, 0.7),
    ):

        def slope(turn, function=function):
            step = 1e-6
            ends = [np.asarray(function(jnp.asarray(v + s * turn * direction))) for s in (step, -step)]
            return (ends[0] - ends[1]) / (2 * step)

        np.testing.assert_allclose(slope(1j), 1j * slope(1.0), atol=1e-8)


@pytest.mark.parametrize(("size", "stride"), WINDOWS)
def test_the_pullback_is_the_transposed_derivative(size, stride):
    v, direction = values(shape=(2, 5, 4, 2)), values(shape=(2, 5, 4, 2))
    pool = lambda z: softmax_pool(z, size, stride, 0.7)  # noqa: E731
    pooled, ahead = jax.jvp(pool, (jnp.asarray(v),), (jnp.asarray(direction),))
    w = values(shape=pooled.shape)
    back = softmax_pool_pullback(jnp.asarray(v), jnp.asarray(w), size, stride, 0.7)
    assert complex(np.sum(back * direction)) == pytest.approx(complex(np.sum(w * ahead)), rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.complex64])
@pytest.mark.parametrize("temperature", [1.0, 1e-4, 1e-6])
def test_large_values_stay_finite_and_pool_to_the_maximum(dtype, temperature):
    v = np.asarray([-800.0, 800.0, 3.0, -3.0]).reshape(1, 2, 2, 1).astype(dtype)
    np.testing.assert_allclose(softmax_pool(jnp.asarray(v), 2, 2, temperature), [[[[800.0]]]], rtol=1e-6)
    slopes = softmax_pool_pullback(jnp.asarray(v), jnp.ones((1, 1, 1, 1), dtype), 2, 2, temperature)
    np.testing.assert_allclose(slopes.ravel(), [0, 1, 0, 0], atol=1e-6)
