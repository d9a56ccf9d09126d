"""Real linear maps on complex arrays, and how their kernels start."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float


def apply_real(linear: Callable[[Array], Array], z: Array) -> Array:
    """Apply a real linear map to a real or complex array, without casting its weights to complex.

    Real and imaginary part go through as one batch twice as large.
    """
    if not jnp.iscomplexobj(z):
        return linear(z)
    parts = linear(jnp.stack([jnp.real(z), jnp.imag(z)]))
    return jax.lax.complex(parts[0], parts[1])


def project(kernel: Float[Array, "pre post"], pre: Float[Array, "... pre"]) -> Float[Array, "... post"]:
    """kernelᵀ pre."""
    return pre @ kernel


def scaled(init: Callable[..., Array], gain: float) -> Callable[..., Array]:
    """An initialiser times a gain."""
    return init if gain == 1 else lambda *arguments: gain * init(*arguments)
