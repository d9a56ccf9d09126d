"""The Cauchy sum on the nudge circle."""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Complex, Float


def circle_points(
    num_points: int, beta_radius: float | Array
) -> tuple[np.ndarray | Array, np.ndarray | Array]:
    """The points β_k = |β| e^{2πik/N} that have to be run: the others are their conjugates.

    Args:
        num_points: N ≥ 1.
        beta_radius: |β| > 0, a number or a traced scalar.

    Returns:
        The real points (|β|, and −|β| for even N) and the complex ones of the upper half plane.

    Source: Laborieux & Zenke (2024), Eq. 9 (METHOD §3).
    """
    real = beta_radius * np.array([1.0, -1.0][: 2 - num_points % 2])
    angles_rad = 2 * math.pi * np.arange(1, (num_points + 1) // 2) / num_points
    return real, beta_radius * np.exp(1j * angles_rad)


def cauchy_derivative(
    real_points: Float[Array, "real_points ..."],
    complex_points: Complex[Array, "complex_points ..."] | None,
    num_points: int,
    beta_radius: float | Array,
) -> Float[Array, "..."]:
    """d/dβ at 0 of a function that is real on the real axis: (1/(N|β|)) Σ_k f(β_k) e^{−2πik/N}.

    For N = 1 pass f(|β|) − f(0): the one-sided difference with the free state.

    Args:
        real_points: f at the real points of `circle_points`.
        complex_points: f at its complex points; None where there are none.
        num_points: N.
        beta_radius: |β|.

    Returns:
        The estimate, real; exact up to terms of order |β|^N.

    Source: Laborieux & Zenke (2024), Eq. 10 (METHOD §3).
    """
    total = real_points[0]
    if real_points.shape[0] == 2:
        total = total - real_points[1]
    if complex_points is not None:
        angles_rad = 2 * math.pi * np.arange(1, (num_points + 1) // 2) / num_points
        for index, angle_rad in enumerate(angles_rad):
            value = complex_points[index]  # each stands for itself and its conjugate
            rotated = math.cos(angle_rad) * jnp.real(value) + math.sin(angle_rad) * jnp.imag(value)
            total = total + 2 * rotated
    return total / (num_points * beta_radius)
