"""Whether a user's own activations and layers continue to complex states, and are linear as they say."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

if TYPE_CHECKING:
    from hepcli.networks._network import Connection

_CENTRES = np.arange(-3.0, 3.01, 0.05)
_CIRCLE = 0.05 * np.exp(2j * np.pi * np.arange(32) / 32)
_MOST = 3e-3  # of the largest difference on a circle, or between two sides
_ROUNDING = 1e-6


@functools.lru_cache(maxsize=64)
def looks_holomorphic(function: Callable[[Array], Array]) -> bool:
    """Whether a function of each element equals its mean over small circles, as holomorphic ones do.

    Args:
        function: of an array of any shape.

    Returns:
        Whether it does for 121 circles of radius 0.05 around −3 … 3; False where it takes no complex numbers.

    Source: the mean value property, Ahlfors 1979, §4.6.2.
    """
    points = (_CENTRES[:, None] + _CIRCLE).astype(np.complex64)
    return _is_mean_of_circle(function, jnp.asarray(points), jnp.asarray(_CENTRES + 0j))


def drives_holomorphically(connection: "Connection") -> bool:
    """Whether what a connection drives with equals its mean over circles of activities.

    Args:
        connection: of a kind of layers.

    Returns:
        Whether it does for four examples, normally distributed, each moved along a random direction; False
        where it takes no complex numbers.

    Source: as `looks_holomorphic`.
    """
    drive, below, above = _sample(connection)
    ways = _normal(2, below.shape), _normal(3, above.shape)

    def along(t: Array) -> Array:  # (4, points) -> (4, points, *units)
        steps = (t.reshape(*t.shape, *(1,) * (way.ndim - 1)) * way[:, None] for way in ways)
        moved = (own[:, None] + step for own, step in zip((below, above), steps, strict=True))
        return drive(*moved)

    return _is_mean_of_circle(along, jnp.asarray(np.tile(_CIRCLE, (4, 1))), jnp.zeros((4, 1), complex))


def drives_linearly(connection: "Connection") -> bool:
    """Whether what a connection drives with is linear in the activities, for eight random pairs of them."""
    drive, below, above = _sample(connection)
    other_below, other_above = _normal(4, below.shape), _normal(5, above.shape)
    joint = np.asarray(drive(2 * below - 3 * other_below, 2 * above - 3 * other_above))
    apart = np.asarray(2 * drive(below, above) - 3 * drive(other_below, other_above))
    return bool(np.abs(joint - apart).max() <= _MOST * np.abs(apart).max() + _ROUNDING)


def _is_mean_of_circle(function: Callable[[Array], Array], around: Array, centres: Array) -> bool:
    """Whether a function equals at the centres (n,) or (n, 1) its mean over the points (n, points)."""
    try:
        on_circle = np.asarray(function(around.astype(jnp.complex64)))
        middle = np.asarray(function(centres.astype(jnp.complex64)))
    except (TypeError, ValueError):
        return False
    middle = middle.reshape(on_circle.shape[0], 1, *on_circle.shape[2:])
    reach, error, size = (
        np.abs(values).reshape(len(values), -1).max(axis=1)
        for values in (on_circle - middle, on_circle.mean(axis=1, keepdims=True) - middle, middle)
    )
    return bool((error <= _MOST * reach + _ROUNDING * (1 + size)).all())


def _sample(connection: "Connection") -> tuple[Callable[[Array, Array], Array], Array, Array]:
    """A fresh connection as a function of the activities at its lower and upper end, and four of each."""
    module, shape = connection.kind.module(connection)
    kernel = module.init(jax.random.key(0), jnp.zeros((1, *shape)))["params"]["kernel"]

    def drive(below: Array, above: Array) -> Array:
        if connection.is_forward:
            return connection.kind.up(connection, kernel, below)
        return connection.kind.down(connection, kernel, below, above)

    return drive, _normal(0, (4, *connection.below)), _normal(1, (4, *connection.above))


def _normal(seed: int, shape: tuple[int, ...]) -> Array:
    return jax.random.normal(jax.random.key(seed), shape, jnp.float32)
