"""Convolutions with 3 x 3 kernels in 4/9 of the multiplications: the minimal filtering F(2 x 2, 3 x 3).

Source: Lavin & Gray, "Fast algorithms for convolutional neural networks", CVPR 2016 (arXiv:1509.09308), §4.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

SIZE = 3  # of the kernel
_MIN_CHANNELS = 16  # below, the sixteen products are too thin
_MIN_TILES = 64  # below, reading the transformed kernel, 16/9 as large, costs more than it saves


def is_faster(kernel: Array, padded: Array) -> bool:
    """Whether `convolve` beats one product of all offsets, from shapes and precision alone.

    Half precision is left to the plain product: sums and differences of the input lose bits it does not have.
    """
    size, _, pre, post = kernel.shape
    rows, columns = (length - size + 1 for length in padded.shape[-3:-1])
    if size != SIZE or min(pre, post) < _MIN_CHANNELS or padded.dtype.itemsize < 4:
        return False
    return math.prod(padded.shape[:-3]) * (rows // 2) * (columns // 2) >= _MIN_TILES


def convolve(
    kernel: Float[Array, "3 3 pre post"], padded: Float[Array, "... pre"]
) -> Float[Array, "... post"]:
    """The convolution of the padded images, Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A in the paper's letters.

    Every tile of 2 x 2 places is a sum over channels at sixteen points, and the sums of all tiles at one
    point are one matrix product.

    Args:
        kernel: g, real.
        padded: d, (..., rows + 2, columns + 2, pre), real.

    Returns:
        (..., rows, columns, post), to rounding what the plain convolution gives.
    """
    *leading, height, width, pre = padded.shape
    rows, columns = height - SIZE + 1, width - SIZE + 1
    odd = ((0, 0), (0, rows % 2), (0, columns % 2), (0, 0))
    images = jnp.pad(padded.reshape(-1, height, width, pre), odd)
    # Points are counted along columns first: (4, 4, images, tiles, tiles, pre) and (4, 4, pre, post).
    points = _at_input_points(_at_input_points(images, 1), 3)
    weights = _at_kernel_points(_at_kernel_points(kernel, 0), 1)
    products = jnp.einsum("ptk,pko->pto", points.reshape(16, -1, pre), weights.reshape(16, pre, -1))
    products = products.reshape(*points.shape[:-1], -1)
    tiles = _from_points(_from_points(products, 4), 2)  # (images, tiles, 2, tiles, 2, post)
    whole = tiles.reshape(len(images), rows + rows % 2, columns + columns % 2, -1)
    return whole[:, :rows, :columns].reshape(*leading, rows, columns, -1)


def _at_input_points(images: Array, axis: int) -> Array:
    """Bᵀ d: the axis, of length 2 t + 2, becomes t tiles of four, two apart, and a first axis of points."""
    tiles = images.shape[axis] // 2 - 1
    places = []
    for start in (0, 2):
        part = jax.lax.slice_in_dim(images, start, start + 2 * tiles, axis=axis)
        split = part.reshape(*images.shape[:axis], tiles, 2, *images.shape[axis + 1 :])
        places += [jax.lax.index_in_dim(split, place, axis + 1, keepdims=False) for place in (0, 1)]
    d0, d1, d2, d3 = places
    return jnp.stack([d0 - d2, d1 + d2, d2 - d1, d1 - d3])


def _at_kernel_points(kernel: Array, axis: int) -> Array:
    """G g: the axis, of length 3, becomes a first axis of four points."""
    g0, g1, g2 = jnp.moveaxis(kernel, axis, 0)
    return jnp.stack([g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2])


def _from_points(products: Array, axis: int) -> Array:
    """Aᵀ m: the first axis, of four points, becomes the two places of a tile, at the given axis."""
    m0, m1, m2, m3 = products
    return jnp.stack([m0 + m1 + m2, m1 - m2 - m3], axis=axis)
