"""Convolutions, weight-shared or locally connected, and the drives made of them."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Inexact

from hepcli.networks import _winograd
from hepcli.networks._linear import apply_real, scaled
from hepcli.networks._pooling import softmax_pool, softmax_pool_pullback
from hepcli.settings import KERNELS, ConvLayer, Shape


class Kernel(NamedTuple):
    """A kind of kernel.

    Attributes:
        shape: (layer, image below) -> shape of the kernel, that of feedback the same.
        init: LeCun-normal initialiser of that shape.
        convolve: (kernel, image padded as the layer says, (..., height, width, pre), stride) -> (..., post).
        bias_shape: (layer, image below) -> one bias for each channel, of `local` weights for each unit.
        flip: kernel -> the kernel of this kind whose convolution is the transposed one, for padding ``same``
            and stride 1; None where there is none.
    """

    shape: Callable[[ConvLayer, Shape], tuple[int, ...]]
    init: Callable[..., Array]
    convolve: Callable[[Array, Array, int], Array]
    bias_shape: Callable[[ConvLayer, Shape], tuple[int, ...]]
    flip: Callable[[Array], Array] | None = None


def _shared_shape(layer: ConvLayer, below: Shape) -> tuple[int, ...]:
    return layer.kernel_size, layer.kernel_size, below[2], layer.channels


def _local_shape(layer: ConvLayer, below: Shape) -> tuple[int, ...]:
    return (*layer.convolved(below)[:2], *_shared_shape(layer, below))


def _convolve_shared(
    kernel: Float[Array, "size size pre post"], padded: Float[Array, "... pre"], stride: int
) -> Float[Array, "... post"]:
    """The same kernel everywhere.

    On a CPU by minimal filtering where that is faster, else as one matrix product of all offsets side by
    side: for few channels several times faster than one product an offset, otherwise about level with it,
    and free of the plain loops that XLA's convolution falls back to in float64.
    """
    if _is_filtered(kernel, padded, stride):
        return _winograd.convolve(kernel, padded)
    if jax.default_backend() == "cpu":
        size = kernel.shape[0]
        parts = [_at_offset(padded, size, a, b, stride) for a in range(size) for b in range(size)]
        return jnp.concatenate(parts, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])
    batch = padded.reshape(-1, *padded.shape[-3:])
    post = jax.lax.conv_general_dilated(
        batch, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return post.reshape(*padded.shape[:-3], *post.shape[1:])


def _at_offset(padded: Array, size: int, row: int, column: int, stride: int) -> Array:
    """What the entry (row, column) of a kernel sees at all places."""
    rows, columns = (length - size + 1 for length in padded.shape[-3:-1])
    return padded[..., row : row + rows : stride, column : column + columns : stride, :]


def _is_filtered(kernel: Array, padded: Array, stride: int) -> bool:
    """Whether a convolution is left to `_winograd`; accelerators bring their own."""
    return jax.default_backend() == "cpu" and stride == 1 and _winograd.is_faster(kernel, padded)


def _flip_shared(kernel: Float[Array, "size size pre post"]) -> Float[Array, "size size post pre"]:
    """The kernel of the transposed convolution."""
    return jnp.swapaxes(jnp.flip(kernel, (0, 1)), -2, -1)


def _convolve_local(
    kernel: Float[Array, "rows columns size size pre post"], padded: Float[Array, "... pre"], stride: int
) -> Float[Array, "... post"]:
    """A kernel for every place, as one product a place and offset."""
    size = kernel.shape[2]
    terms = [
        jnp.einsum("...hwi,hwio->...hwo", _at_offset(padded, size, a, b, stride), kernel[:, :, a, b])
        for a in range(size)
        for b in range(size)
    ]
    return sum(terms[1:], start=terms[0])


SHARED = Kernel(
    _shared_shape,
    nn.initializers.lecun_normal(),
    _convolve_shared,
    lambda layer, below: (layer.channels,),
    _flip_shared,
)
LOCAL = Kernel(
    _local_shape,
    nn.initializers.lecun_normal(in_axis=(-4, -3, -2), out_axis=-1, batch_axis=(0, 1)),
    _convolve_local,
    lambda layer, below: layer.shape(below),
)


class ConvWeights(nn.Module):
    """A kernel between a layer and the image below it, times its gain, and perhaps a bias, zero.

    The bias is added behind the pooling: it moves a pooled value as it moves what is pooled.
    """

    layer: ConvLayer
    use_bias: bool

    @nn.compact
    def __call__(self, below: Float[Array, "batch height width pre"]) -> Float[Array, "batch ..."]:
        """Bottom-up drive with bias."""
        image: Shape = below.shape[1:]
        kind = _kernel(self.layer)
        kernel = self.param("kernel", scaled(kind.init, self.layer.gain), kind.shape(self.layer, image))
        drive = bottom_up(self.layer, kernel, below)
        if not self.use_bias:
            return drive
        bias: Array = self.param("bias", nn.initializers.zeros, kind.bias_shape(self.layer, image))
        return drive + bias


def bottom_up(
    layer: ConvLayer, kernel: Float[Array, "..."], below: Inexact[Array, "... height width pre"]
) -> Inexact[Array, "... rows columns channels"]:
    """pool(W ∗ r_below), without bias. Source: METHOD §2."""
    values = apply_real(partial(_convolve, layer, kernel), below)
    if not layer.is_pooled:
        return values
    return softmax_pool(values, layer.pool_size, layer.pool_stride, layer.pool_temperature)


def top_down(
    layer: ConvLayer,
    kernel: Float[Array, "..."],
    below: Inexact[Array, "... height width pre"],
    above: Inexact[Array, "... rows columns channels"],
) -> Inexact[Array, "... height width pre"]:
    """∂/∂r_below ⟨pool(B ∗ r_below), r_above⟩: what feedback of `layer` drives the layer below with.

    Where there is pooling it depends on the activity it drives, because the pooling's weights point to where
    the feedback goes.

    Args:
        layer: the layer above.
        kernel: B, of the forward kernel's shape.
        below: activity of the layer below.
        above: activity of `layer`.

    Returns:
        The drive of the layer below. Source: METHOD §2.
    """
    slopes = above
    if layer.is_pooled:
        values = apply_real(partial(_convolve, layer, kernel), below)
        slopes = softmax_pool_pullback(
            values, above, layer.pool_size, layer.pool_stride, layer.pool_temperature
        )
    image: Shape = below.shape[-3:]
    return apply_real(partial(_convolve_transposed, layer, kernel, image), slopes)


def _kernel(layer: ConvLayer) -> Kernel:
    """The kind of kernel of a layer."""
    kernel: Kernel = KERNELS[layer.weights]
    return kernel


def _convolve(layer: ConvLayer, kernel: Array, image: Array) -> Array:
    """W ∗ image, real."""
    return _kernel(layer).convolve(kernel, _pad(layer, image), layer.stride)


def _convolve_transposed(layer: ConvLayer, kernel: Array, image: Shape, slopes: Array) -> Array:
    """Wᵀ slopes, real, (..., *image)."""
    flip = _kernel(layer).flip
    if flip is not None and layer.padding == "same" and layer.stride == 1:
        flipped, padded = flip(kernel), _pad(layer, slopes)
        if _is_filtered(flipped, padded, 1):
            return _winograd.convolve(flipped, padded)
    like = jnp.zeros((*slopes.shape[:-3], *image), slopes.dtype)  # of it only the shape is used
    transposed = jax.linear_transpose(partial(_convolve, layer, kernel), like)
    result: Array = transposed(slopes)[0]
    return result


def _pad(layer: ConvLayer, image: Array) -> Array:
    """The image with the zeros around it that the layer's padding asks for."""
    if layer.padding != "same":
        return image
    before, after = (layer.kernel_size - 1) // 2, layer.kernel_size // 2
    return jnp.pad(image, [(0, 0)] * (image.ndim - 3) + [(before, after)] * 2 + [(0, 0)])
