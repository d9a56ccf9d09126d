"""Activations; to add one: a function of an array, and its line in `hepcli/settings/parts.py`.

One that is not holomorphic has a second line there, in `NOT_HOLOMORPHIC`.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from hepcli.settings import ACTIVATIONS, split_activation


def logistic(z: Array) -> Array:
    """1/(1 + e^{−z}) for real or complex z, without overflow on either side; poles at iπ(2k + 1)."""
    if not jnp.iscomplexobj(z):
        return jax.nn.sigmoid(z)
    right = jnp.real(z) >= 0
    small = jnp.exp(jnp.where(right, -z, z))  # magnitude at most 1
    return jnp.where(right, jnp.ones_like(small), small) / (1 + small)


def sigmoid(z: Array) -> Array:
    """σ(z) = 1/(1 + e^{−4z+2}), real or complex. Source: Laborieux & Zenke (2024), §4 (METHOD §1)."""
    return logistic(4 * z - 2)


def dsilu(z: Array) -> Array:
    """σ(z) = ½z/(1+e^{−z}) + (1−½z)/(1+e^{−(z−2)}), real or complex. Source: METHOD §1."""
    return 0.5 * z * logistic(z) + (1 - 0.5 * z) * logistic(z - 2)


def tanh(z: Array) -> Array:
    """tanh z, real or complex; poles at iπ(k + ½)."""
    return jnp.tanh(z)


def softplus(z: Array) -> Array:
    """log(1 + e^z), real or complex; branch points at iπ(2k + 1), principal value between them."""
    if not jnp.iscomplexobj(z):
        return jax.nn.softplus(z)
    right = jnp.real(z) >= 0
    small = jnp.exp(jnp.where(right, -z, z))  # magnitude at most 1
    return jnp.where(right, z, jnp.zeros_like(z)) + jnp.log1p(small)


def linear(z: Array) -> Array:
    """The state itself, real or complex."""
    return z


def clipped_relu(z: Array, ceiling: float) -> Array:
    """min(max(z, 0), ceiling), real; its derivative is 1 in between and 0 outside, kinks included.

    Raises:
        ValueError: the state is complex, on which it has no holomorphic continuation.
    """
    if jnp.iscomplexobj(z):
        raise ValueError("a clipped ReLU takes real states only")
    inside = (z > 0) & (z < ceiling)
    return jnp.where(inside, z, jax.lax.stop_gradient(jnp.clip(z, 0.0, ceiling)))


def hard_sigmoid(z: Array) -> Array:
    """min(max(z, 0), 1), real. Source: Scellier & Bengio (2017)."""
    return clipped_relu(z, 1.0)


def relu6(z: Array) -> Array:
    """min(max(z, 0), 6), real. Source: E P & Srinivasan (2025), arXiv:2509.26003."""
    return clipped_relu(z, 6.0)


def make_activation(name: str) -> Callable[[Array], Array]:
    """The activation of a name such as `sigmoid` or `clipped_relu(2.5)`."""
    part, ceiling = split_activation(name)
    activation: Callable[..., Array] = ACTIVATIONS[part]
    return activation if ceiling is None else partial(activation, ceiling=ceiling)
