"""Holomorphic activations; to add one: a function of an array, and its line in `hepcli/settings/parts.py`."""

import jax
import jax.numpy as jnp
from jax import Array


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
