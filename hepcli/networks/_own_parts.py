"""Whether a user's own components continue to complex states, and are what they say, on samples."""

import functools
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from hepcli.networks._connection import Connection
from hepcli.networks._feedback import as_feedback
from hepcli.networks._losses import Loss

_MOST = 3e-3  # of the largest difference on a circle, or between two sides
_ROUNDING = 1e-6


@functools.lru_cache(maxsize=64)
def looks_holomorphic(function: Callable[[Array], Array]) -> bool:
    """Whether a function of each element looks like a power series on small circles, as holomorphic ones do.

    Args:
        function: of an array of any shape.

    Returns:
        Whether it does for 121 circles of radius 0.05 around −3 … 3; False where it takes no complex numbers.

    Source: mean value property and Cauchy's theorem, Ahlfors 1979, §4.1.4 and §4.6.2.
    """
    return _is_holomorphic(function, np.arange(-3.0, 3.01, 0.05))


def drives_holomorphically(connection: Connection) -> bool:
    """Whether what a connection drives with is holomorphic on circles of activities.

    Args:
        connection: of a kind of layers.

    Returns:
        Whether it is for four examples, normally distributed, each moved along a random direction; False
        where it takes no complex numbers.

    Source: as `looks_holomorphic`.
    """
    drive, below, above = _sample(connection)
    ways = _normal(2, below.shape), _normal(3, above.shape)

    def along(t: Array) -> Array:  # (4, points) -> (4, points, *units)
        steps = (t.reshape(*t.shape, *(1,) * (way.ndim - 1)) * way[:, None] for way in ways)
        moved = (own[:, None] + step for own, step in zip((below, above), steps, strict=True))
        return drive(*moved)

    return _is_holomorphic(along, np.zeros(4))


def drives_linearly(connection: Connection) -> bool:
    """Whether what a connection drives with is linear in the activities, for four pairs of examples."""
    drive, below, above = _sample(connection)
    other_below, other_above = _normal(4, below.shape), _normal(5, above.shape)
    joint = np.asarray(drive(2 * below - 3 * other_below, 2 * above - 3 * other_above))
    apart = np.asarray(2 * drive(below, above) - 3 * drive(other_below, other_above))
    return bool(np.abs(joint - apart).max() <= _MOST * np.abs(apart).max() + _ROUNDING)


def leads_back(feedback: Connection, forward: Connection) -> bool:
    """Whether feedback with the kernel of its forward partner, as it starts from 0°, is its transpose.

    Args:
        feedback: linear in the activities.
        forward: its partner.

    Returns:
        Whether above · up(below) = below · down(above), for four examples.
    """
    kernel = _fresh_kernel(forward)
    below, above = _normal(0, (4, *forward.below)), _normal(1, (4, *forward.above))
    up = forward.kind.up(forward, kernel, below)
    down = feedback.kind.down(feedback, as_feedback(kernel), below, above)
    forth, back = (np.asarray(one).reshape(4, -1).sum(axis=1) for one in (up * above, down * below))
    size = np.linalg.norm(up) * np.linalg.norm(above)
    return bool(np.abs(forth - back).max() <= _MOST * size + _ROUNDING)


def derives_its_value(loss: Loss, num_classes: int) -> bool:
    """Whether the derivative of a loss is that of its value, at random outputs in its domain.

    Args:
        loss: of outputs and targets.
        num_classes: classes.
    """
    outputs, targets = _outputs(loss, num_classes)
    own = np.asarray(loss.derivative(outputs, targets))
    true = np.asarray(jax.grad(lambda output: loss.value(output, targets).sum())(outputs))
    error, size = (np.abs(values).max(axis=1) for values in (own - true, true))
    return bool((error <= _MOST * size + _ROUNDING).all())


def derives_holomorphically(loss: Loss, num_classes: int) -> bool:
    """Whether the derivative of a loss is holomorphic on circles of outputs.

    Args:
        loss: of outputs and targets.
        num_classes: classes.

    Returns:
        Whether it is around random outputs in its domain, all of which move; False where it takes no complex
        numbers.

    Source: as `looks_holomorphic`.
    """
    outputs, targets = _outputs(loss, num_classes)
    way = jnp.sign(_normal(2, outputs.shape))

    def along(t: Array) -> Array:  # (batch, points) -> (batch, points, classes)
        return loss.derivative(outputs[:, None] + t[..., None] * way[:, None], targets[:, None])

    return _is_holomorphic(along, np.zeros(len(outputs)), radius=0.1)


def _outputs(loss: Loss, num_classes: int) -> tuple[Array, Array]:
    """Scores and probabilities, 256 of each, and targets; those of which the loss is finite."""
    size = (256, num_classes)
    probabilities = jax.random.uniform(jax.random.key(1), size, jnp.float32, 0.2, 0.8)
    outputs = jnp.concatenate([2 * _normal(0, size), probabilities])
    targets = jax.nn.one_hot(jnp.arange(512) % num_classes, num_classes)
    finite = np.isfinite(loss.value(outputs, targets))
    return outputs[finite], targets[finite]


def _is_holomorphic(
    function: Callable[[Array], Array], centres: NDArray[np.float64], radius: float = 0.05
) -> bool:
    """Whether a function equals at centres (n,) its mean over circles, and has no moment on them.

    Both hold for a power series Σ a_k tᵏ, whose moments with t, t², … vanish; the mean alone would let real
    parts and conjugates pass.
    """
    circle = np.exp(2j * np.pi * np.arange(32) / 32)
    try:
        around = np.asarray(function(jnp.asarray(centres[:, None] + radius * circle, jnp.complex64)))
        middle = np.asarray(function(jnp.asarray(centres[:, None], jnp.complex64)))
    except (TypeError, ValueError):
        return False
    weights = circle[:, None] ** np.arange(4) / len(circle)
    moments = np.einsum("np...,pk->nk...", around - middle, weights)
    error, reach, size = (
        np.abs(values).reshape(len(values), -1).max(axis=1) for values in (moments, around - middle, middle)
    )
    return bool((error <= _MOST * reach + _ROUNDING * (1 + size)).all())


def _sample(connection: Connection) -> tuple[Callable[[Array, Array], Array], Array, Array]:
    """A fresh connection as a function of the activities at its lower and upper end, and four of each."""
    kernel = _fresh_kernel(connection)
    untied = replace(connection, is_tied=False)  # the kernel is its own
    ends = (connection.pre, connection.post) if connection.is_forward else (connection.post, connection.pre)

    def drive(*activities: Array) -> Array:
        return untied.drive({connection.name: {"kernel": kernel}}, dict(zip(ends, activities, strict=True)))

    return drive, _normal(0, (4, *connection.below)), _normal(1, (4, *connection.above))


def _fresh_kernel(connection: Connection) -> Array:
    module, shape = connection.kind.module(connection)
    kernel: Array = module.init(jax.random.key(0), jnp.zeros((1, *shape)))["params"]["kernel"]
    return kernel


def _normal(seed: int, shape: tuple[int, ...]) -> Array:
    return jax.random.normal(jax.random.key(seed), shape, jnp.float32)
