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
    ahead = {forward: as_feedback(params[forward]["kernel"]) for _, forward in pairs}
    back = {forward: params[feedback]["kernel"] for feedback, forward in pairs}
    shared = {forward: params[forward]["kernel"] for forward in tied}
    angles = {name: _angle_deg([ahead[name]], [back[name]]) for name in ahead}
    total = _angle_deg([*ahead.values(), *shared.values()], [*back.values(), *shared.values()])
    return dict.fromkeys(tied, jnp.zeros(())) | angles | {"total": total}


def _angle_deg(first: Sequence[Array], second: Sequence[Array]) -> Array:
    """Between two lists of arrays as vectors; unlike an arccos it does not round small angles to 0 or 0.02°.

    Source: Kahan (2006), "How futile are mindless assessments of roundoff", §12.
    """
    vectors = (jnp.concatenate([array.ravel() for array in arrays]) for arrays in (first, second))
    a, b = (vector / jnp.linalg.norm(vector) for vector in vectors)
    return jnp.rad2deg(2 * jnp.arctan2(jnp.linalg.norm(a - b), jnp.linalg.norm(a + b)))


def as_feedback(kernel: Array) -> Array:
    """A forward kernel in the shape of its feedback partner: matrices transpose, convolutions do not."""
    return kernel.T if kernel.ndim == 2 else kernel
