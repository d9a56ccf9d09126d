"""Softmax pooling: a maximum that is smooth, and holomorphic in what it pools."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Inexact


def pooled_size(size: int, pool_size: int, stride: int) -> int:
    """Whole windows along an axis; what is left over at its end is not pooled."""
    return max(0, (size - pool_size) // stride + 1)


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
    parts = _windows(values, pool_size, stride)
    return _weighted_sum(_shares(parts, temperature), parts)


def softmax_pool_pullback(
    values: Inexact[Array, "... height width channels"],
    covector: Inexact[Array, "... rows columns channels"],
    pool_size: int,
    stride: int,
    temperature: float,
) -> Inexact[Array, "... height width channels"]:
    """∂/∂v ⟨pool(v), w⟩ for a covector w, without conjugation: holomorphic in both.

    With p_i = e^{v_i/T}/Σ e^{v/T}, the derivative of the pooled value by v_i is p_i (1 + (v_i − pool)/T).
    """
    windows = partial(_windows, pool_size=pool_size, stride=stride)
    parts = windows(values)
    shares = _shares(parts, temperature)
    pooled = _weighted_sum(shares, parts)
    slopes = [covector * p * (1 + (v - pooled) / temperature) for p, v in zip(shares, parts, strict=True)]
    (placed,) = jax.linear_transpose(windows, jax.typeof(values))(slopes)
    found: Array = placed
    return found


def _windows(values: Array, pool_size: int, stride: int) -> list[Array]:
    """The first, second, … element of every window: pool_size² arrays (..., rows, columns, channels)."""
    rows, columns = (pooled_size(size, pool_size, stride) for size in values.shape[-3:-1])
    return [
        values[..., a : a + stride * (rows - 1) + 1 : stride, b : b + stride * (columns - 1) + 1 : stride, :]
        for a in range(pool_size)
        for b in range(pool_size)
    ]


def _shares(parts: Sequence[Array], temperature: float) -> list[Array]:
    """e^{v/T}/Σ e^{v/T}; a shift by the largest real part keeps the exponentials finite."""
    shift = jnp.real(parts[0])
    for part in parts[1:]:
        shift = jnp.maximum(shift, jnp.real(part))
    shift = jax.lax.stop_gradient(shift).astype(parts[0].dtype)
    weights = [jnp.exp((part - shift) / temperature) for part in parts]
    total = sum(weights[1:], start=weights[0])
    return [weight / total for weight in weights]


def _weighted_sum(shares: Sequence[Array], parts: Sequence[Array]) -> Array:
    products = [share * part for share, part in zip(shares, parts, strict=True)]
    return sum(products[1:], start=products[0])
