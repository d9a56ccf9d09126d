"""Feedback kernels and their forward partners: mixing them at the start, and the angle between them."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
from jax import Array

from hepcli.engine import Gradient, Params


def rotate_feedback(params: Params, pairs: Sequence[tuple[str, str]], angle_deg: float) -> Gradient:
    """Mix each feedback kernel with its forward partner: B ← sin α · B + cos α · Wᵀ.

    A convolution's feedback kernel has the shape of the forward one: it is mixed with W itself.

    Args:
        params: parameters with dense kernels (pre, post) or kernels of convolutions.
        pairs: (feedback, forward) names.
        angle_deg: α in degrees; 0 starts symmetric, 90 independent.

    Returns:
        New parameters; all else unchanged.

    Source: Laborieux & Zenke (2024), §4.2 (METHOD §2).
    """
    angle_rad = jnp.deg2rad(angle_deg)
    mixed = {name: dict(weights) for name, weights in params.items()}
    for feedback, forward in pairs:
        own, partner = params[feedback]["kernel"], as_feedback(params[forward]["kernel"])
        mixed[feedback]["kernel"] = jnp.sin(angle_rad) * own + jnp.cos(angle_rad) * partner
    return mixed


def copy_gradients(gradient: Gradient, pairs: Sequence[tuple[str, str]]) -> Gradient:
    """Give each feedback kernel the gradient of its forward partner, transposed where it is dense.

    With the same decay on both, the difference of the kernels decays whatever the gradient is.

    Args:
        gradient: of all parameters, real.
        pairs: (feedback, forward) names.

    Returns:
        A new gradient; all else unchanged.

    Source: Kolen & Pollack (1994), "Backpropagation without weight transport"; Akrout et al. (2019).
    """
    copied = {name: dict(weights) for name, weights in gradient.items()}
    for feedback, forward in pairs:
        copied[feedback]["kernel"] = as_feedback(gradient[forward]["kernel"])
    return copied


def weight_angle_deg(
    params: Params, pairs: Sequence[tuple[str, str]], tied: Sequence[str] = ()
) -> Mapping[str, Array]:
    """Angle between feedback kernels and their forward partners, transposed where they are dense.

    Args:
        params: real parameters.
        pairs: (feedback, forward) names where both have kernels of their own; empty when there are none.
        tied: forward names of the pairs that share one.

    Returns:
        Degrees, per pair under its forward name, 0 for tied ones, and over all pairs under ``total``; empty
        without pairs.

    Source: Laborieux & Zenke (2024), §4.2 (METHOD §5).
    """
    if not pairs:
        return dict.fromkeys((*tied, "total"), jnp.zeros(())) if tied else {}
    own = [jnp.sum(params[forward]["kernel"] ** 2) for forward in tied]
    parts = {
        forward: (
            jnp.sum(as_feedback(params[forward]["kernel"]) * params[feedback]["kernel"]),
            jnp.sum(params[forward]["kernel"] ** 2),
            jnp.sum(params[feedback]["kernel"] ** 2),
        )
        for feedback, forward in pairs
    }
    shared = [(square, square, square) for square in own]
    parts["total"] = tuple(sum(column) for column in zip(*parts.values(), *shared, strict=True))
    return dict.fromkeys(tied, jnp.zeros(())) | {
        name: jnp.rad2deg(jnp.arccos(jnp.clip(inner / jnp.sqrt(ahead * back), -1.0, 1.0)))
        for name, (inner, ahead, back) in parts.items()
    }


def as_feedback(kernel: Array) -> Array:
    """A forward kernel in the shape of its feedback partner: matrices transpose, convolutions do not."""
    return kernel.T if kernel.ndim == 2 else kernel
