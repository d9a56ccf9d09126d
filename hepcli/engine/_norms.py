"""Norms and flags per example over all layers."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def example_norm(tree: Any, batch_ndim: int) -> Array:
    """Euclidean norm over all layers, real, one value per index of the leading `batch_ndim` axes."""

    def squares(leaf: Array) -> Array:
        if leaf.dtype.itemsize == 2:  # sums of squares leave the range of half precision
            leaf = leaf.astype(jnp.float32)
        magnitude = jnp.real(leaf * jnp.conj(leaf)) if jnp.iscomplexobj(leaf) else leaf * leaf
        return jnp.sum(magnitude, axis=tuple(range(batch_ndim, leaf.ndim)))

    return jnp.sqrt(sum(squares(leaf) for leaf in jax.tree.leaves(tree)))


def all_finite(tree: Any, batch_ndim: int) -> Array:
    """Whether every layer is finite, per index of the leading `batch_ndim` axes."""
    flags = [
        jnp.all(jnp.isfinite(leaf), axis=tuple(range(batch_ndim, leaf.ndim)))
        for leaf in jax.tree.leaves(tree)
    ]
    return jnp.stack(flags).all(axis=0)
