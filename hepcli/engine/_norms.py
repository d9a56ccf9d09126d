"""Norms and flags per example over all layers."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike


def example_norm(tree: Any, batch_ndim: int) -> Array:
    """Euclidean norm over all layers, real, one value per index of the leading `batch_ndim` axes."""

    def squares(leaf: Array) -> Array:
        leaf = leaf.astype(exact_dtype(leaf))
        magnitude = jnp.real(leaf * jnp.conj(leaf)) if jnp.iscomplexobj(leaf) else leaf * leaf
        return jnp.sum(magnitude, axis=tuple(range(batch_ndim, leaf.ndim)))

    return jnp.sqrt(sum(squares(leaf) for leaf in jax.tree.leaves(tree)))


def exact_dtype(array: Array) -> DTypeLike:
    """What to add up an array in: sums of squares leave the range of half precision."""
    return jnp.float32 if array.dtype.itemsize == 2 else array.dtype


def all_finite(tree: Any, batch_ndim: int) -> Array:
    """Whether every layer is finite, per index of the leading `batch_ndim` axes."""
    flags = [
        jnp.all(jnp.isfinite(leaf), axis=tuple(range(batch_ndim, leaf.ndim)))
        for leaf in jax.tree.leaves(tree)
    ]
    return jnp.stack(flags).all(axis=0)


def beside(flags: Array, leaf: Array) -> Array:
    """A value per example (batch,) with as many axes as an array (batch, ...)."""
    return flags.reshape(-1, *[1] * (leaf.ndim - 1))
