"""Losses and their holomorphic derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.settings import LOSSES
from tests.dense import dense_network


def batch(seed=0, size=4):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.standard_normal((3, size))), jnp.eye(size)[rng.integers(0, size, 3)]


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", LOSSES)
def test_derivative_is_the_gradient_on_real_outputs(name):
    output, targets = batch()
    expected = jax.grad(lambda output: LOSSES[name].value(output, targets).sum())(output)
    np.testing.assert_allclose(LOSSES[name].derivative(output, targets), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_derivative_is_holomorphic(name):
    """Cauchy–Riemann along a random direction of all outputs at once."""
    output, targets = batch()
    other, direction = batch(1)[0], batch(2)[0]

    def real_form(x, y):
        value = LOSSES[name].derivative(jax.lax.complex(x, y), targets)
        return jnp.real(value), jnp.imag(value)

    zero = jnp.zeros_like(output)
    _, (u_x, v_x) = jax.jvp(real_form, (output, 0.3 * other), (direction, zero))
    _, (u_y, v_y) = jax.jvp(real_form, (output, 0.3 * other), (zero, direction))
    np.testing.assert_allclose(u_x, v_y, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(u_y, -v_x, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", LOSSES)
def test_known_values(name):
    output = jnp.asarray([[1.0, 2.0, 4.0]])
    targets = jnp.asarray([[0.0, 1.0, 0.0]])
    weights = np.exp([1.0, 2.0, 4.0])
    expected = {"cross_entropy": -np.log(weights[1] / weights.sum()), "squared_error": (1 + 1 + 16) / 2}
    np.testing.assert_allclose(LOSSES[name].value(output, targets), [expected[name]], rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_cross_entropy_derivative_does_not_overflow(dtype):
    logits = jnp.asarray([[1000.0, 0.0, -1000.0]], dtype)
    derivative = LOSSES["cross_entropy"].derivative(logits, jnp.asarray([[0.0, 1.0, 0.0]]))
    np.testing.assert_allclose(derivative, [[1.0, -1.0, 0.0]], atol=1e-15)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("readout", [True, False])
def test_loss_gradient_reaches_through_the_readout(loss, readout):
    out, classes = (6, 4) if readout else (4, 4)
    network = dense_network((("out", out),), (("in", "out"),), 3, classes, "sigmoid", loss, readout)
    params = network.init(jax.random.key(3))
    activity = jnp.asarray(np.random.default_rng(4).random((3, out)))
    _, targets = batch()
    expected = jax.grad(lambda r: network.loss(params, r, targets).sum())(activity)
    found = network.loss_gradient(params, activity, targets)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)  # kernels are float32
    on_axis = network.loss_gradient(params, activity.astype(complex), targets)
    np.testing.assert_allclose(on_axis, found, rtol=1e-12, atol=1e-13)
