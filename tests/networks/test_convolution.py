"""Convolutions: however they are computed, they are the convolution, its transpose and their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.networks import _winograd
from hepcli.networks._convolution import ConvWeights, _convolve, _convolve_transposed
from hepcli.settings import ConvLayer

from ..engine.conv_cases import conv, naive_convolution

PRE, POST = 17, 16
KERNEL = np.random.default_rng(0).standard_normal((3, 3, PRE, POST))
IMAGES = [("same", (6, 8)), ("same", (7, 9)), ("valid", (6, 9)), ("same", (1, 2)), ("valid", (3, 4))]


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=IMAGES, ids=str)
def case(request, monkeypatch):
    """A layer and images that are filtered, however few tiles they have."""
    monkeypatch.setattr(_winograd, "_MIN_TILES", 0)
    padding, size = request.param
    return conv(POST, padding=padding), np.random.default_rng(1).standard_normal((3, *size, PRE))


def test_the_filtered_convolution_is_the_convolution(case, monkeypatch):
    layer, images = case
    asked = []
    filtered = _winograd.convolve
    monkeypatch.setattr(_winograd, "convolve", lambda *arrays: asked.append(True) or filtered(*arrays))
    found = _convolve(layer, jnp.asarray(KERNEL), jnp.asarray(images))
    assert asked
    expected = np.stack([naive_convolution(layer, KERNEL, image) for image in images])
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-11)


def test_the_transpose_and_both_gradients_belong_to_it(case):
    """⟨w, K ∗ r⟩ is linear in K and in r: its gradients are what transposing gives."""
    layer, images = case
    shape = (len(images), *layer.convolved(images.shape[1:]))
    covector = np.random.default_rng(2).standard_normal(shape)

    def paired(kernel, images):
        return jnp.sum(covector * _convolve(layer, kernel, images))

    by_kernel, by_images = jax.grad(paired, (0, 1))(jnp.asarray(KERNEL), jnp.asarray(images))
    transposed = _convolve_transposed(layer, jnp.asarray(KERNEL), images.shape[1:], jnp.asarray(covector))
    np.testing.assert_allclose(transposed, by_images, rtol=1e-12, atol=1e-11)
    value = paired(jnp.asarray(KERNEL), jnp.asarray(images))
    np.testing.assert_allclose(jnp.sum(transposed * images), value, rtol=1e-11)
    np.testing.assert_allclose(jnp.sum(by_kernel * KERNEL), value, rtol=1e-11)


@pytest.mark.parametrize(
    ("kernel", "dtype"),
    [((5, 5, 32, 32), "float32"), ((3, 3, 3, 32), "float32"), ((3, 3, 32, 32), "bfloat16")],
    ids=["another size", "few channels", "half precision"],
)
def test_what_filtering_does_not_serve_is_left_to_the_plain_product(kernel, dtype):
    padded = jnp.zeros((64, 10, 10, kernel[2]), dtype)
    assert _winograd.is_faster(jnp.zeros((3, 3, 32, 32)), jnp.zeros((64, 10, 10, 32)))
    assert not _winograd.is_faster(jnp.zeros(kernel, dtype), padded)


def test_float32_loses_no_more_than_a_digit_to_filtering():
    images = np.random.default_rng(1).standard_normal((8, 16, 16, PRE))
    layer = conv(POST)
    assert _winograd.is_faster(KERNEL, np.pad(images.astype(np.float32), [(0, 0), (1, 1), (1, 1), (0, 0)]))
    found = _convolve(layer, jnp.float32(KERNEL), jnp.float32(images))
    assert found.dtype == jnp.float32
    expected = np.stack([naive_convolution(layer, KERNEL, image) for image in images])
    assert np.abs(found - expected).max() < 4e-6 * np.abs(expected).max()


@pytest.mark.parametrize("weights", ["shared", "local"])
@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_kernels_begin_with_the_spread_of_their_fan_in_times_their_gain(weights, gain):
    layer = ConvLayer(kind="conv", channels=16, pool_size=1, pool_stride=1, weights=weights, gain=gain)
    below = jnp.zeros((1, 8, 8, 4))
    kernel = np.asarray(ConvWeights(layer, False).init(jax.random.key(0), below)["params"]["kernel"])
    expected = gain / np.sqrt(3 * 3 * 4)
    assert kernel.std() == pytest.approx(expected, rel=4 / np.sqrt(2 * kernel.size))
