"""Softmax pooling: a maximum that is smooth, and holomorphic in what it pools."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Inexact

from hepcli.settings import pooled_size

_WINDOW = (-4, -2)  # the axes of rows and columns within a window


def softmax_pool(
    values: Inexact[Array, "... height width channels"], pool_size: int, stride: int, temperature: float
) -> Inexact[Array, "... rows columns channels"]:
    """Σ v e^{v/T} / Σ e^{v/T} over each window, for real or complex v.

    Args:
        values: what is pooled.
        pool_size: rows and columns of a window.
        stride: from one window to the next.
        temperature: T > 0; the maximum for T → 0, the mean for T → ∞.

    Returns:
        One value a window and channel. Poles, where Σ e^{v/T} = 0, lie where imaginary parts within a
        window differ by πT or more.

    Source: METHOD §2.
    """
    windows = _windows(_wide(values), pool_size, stride)
    return jnp.sum(_shares(windows, temperature) * windows, axis=_WINDOW).astype(values.dtype)


def softmax_pool_pullback(
    values: Inexact[Array, "... height width channels"],
    covector: Inexact[Array, "... rows columns channels"],
    pool_size: int,
    stride: int,
    temperature: float,
) -> Inexact[Array, "... height width channels"]:
    """∂/∂v ⟨pool(v), w⟩ for a covector w, without conjugation: holomorphic in both.

    With p_i = e^{v_i/T}/Σ e^{v/T}, the derivative of the pooled value with respect to v_i is p_i (1 + (v_i −
    pool)/T).

    Source: METHOD §2.
    """
    split = partial(_windows, pool_size=pool_size, stride=stride)
    windows = split(_wide(values))
    shares = _shares(windows, temperature)
    pooled = jnp.sum(shares * windows, axis=_WINDOW, keepdims=True)
    slopes = jnp.expand_dims(_wide(covector), _WINDOW) * shares * (1 + (windows - pooled) / temperature)
    (together,) = jax.linear_transpose(split, jax.typeof(values))(slopes.astype(values.dtype))
    result: Array = together
    return result


def _wide(values: Array) -> Array:
    """At least single precision: divided by a small T, differences of half-precision values overflow."""
    return values.astype(jnp.float32) if values.dtype.itemsize < 4 else values


def _windows(values: Array, pool_size: int, stride: int) -> Array:
    """Every window, (..., rows, pool_size, columns, pool_size, channels)."""
    *leading, height, width, channels = values.shape
    rows, columns = pooled_size(height, pool_size, stride), pooled_size(width, pool_size, stride)
    if stride == pool_size:  # windows that share nothing are a view
        whole = values[..., : rows * stride, : columns * stride, :]
        return whole.reshape(*leading, rows, pool_size, columns, pool_size, channels)
    row = stride * jnp.arange(rows)[:, None] + jnp.arange(pool_size)
    column = stride * jnp.arange(columns)[:, None] + jnp.arange(pool_size)
    return values[..., row[:, :, None, None], column, :]


def _shares(windows: Array, temperature: float) -> Array:
    """e^{v/T}/Σ e^{v/T}; a shift by the largest real part keeps the exponentials finite."""
    shift = jnp.max(jnp.real(windows), axis=_WINDOW, keepdims=True)
    weights = jnp.exp((windows - jax.lax.stop_gradient(shift).astype(windows.dtype)) / temperature)
    return weights / jnp.sum(weights, axis=_WINDOW, keepdims=True)
