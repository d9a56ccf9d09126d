"""Losses on the output, by name, with derivatives that continue to complex outputs."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Inexact


class Loss(NamedTuple):
    """A loss per example and its derivative with respect to the output. Source: METHOD §1.

    Attributes:
        value: (output, targets), both (…, classes), real -> loss per example (…), real.
        derivative: (output, targets) -> derivative with respect to the output (…, classes), holomorphic in
            the output.
    """

    value: Callable[[Array, Array], Array]
    derivative: Callable[[Array, Array], Array]


def cross_entropy(
    logits: Float[Array, "... classes"], targets: Float[Array, "... classes"]
) -> Float[Array, "..."]:
    """−Σ y log softmax(logits), natural logarithm. Source: METHOD §1."""
    return -jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1)


def cross_entropy_derivative(
    logits: Inexact[Array, "... classes"], targets: Float[Array, "... classes"]
) -> Inexact[Array, "... classes"]:
    """softmax(logits) − y; a shift by the largest real part keeps the exponentials finite."""
    shift = jax.lax.stop_gradient(jnp.max(jnp.real(logits), axis=-1, keepdims=True))
    weights = jnp.exp(logits - shift.astype(logits.dtype))
    return weights / jnp.sum(weights, axis=-1, keepdims=True) - targets.astype(logits.dtype)


def squared_error(
    output: Float[Array, "... classes"], targets: Float[Array, "... classes"]
) -> Float[Array, "..."]:
    """½‖output − y‖². Source: METHOD §1."""
    return 0.5 * jnp.sum((output - targets) ** 2, axis=-1)


def squared_error_derivative(
    output: Inexact[Array, "... classes"], targets: Float[Array, "... classes"]
) -> Inexact[Array, "... classes"]:
    """output − y."""
    return output - targets.astype(output.dtype)


CROSS_ENTROPY = Loss(cross_entropy, cross_entropy_derivative)
SQUARED_ERROR = Loss(squared_error, squared_error_derivative)
