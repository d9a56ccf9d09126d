"""What is known of a batch, and the measures that are one value per example of it."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from hepcli.engine import FreePhase, JacobianParts, References, jacobian_symmetry, log10_residual, num_units


class Measured(NamedTuple):
    """A batch at its fixed points.

    Attributes:
        own: the run's own free phase; `own.problem` has network, parameters and batch, `own.phase.state` the
            pre-activations (batch, *units) per layer, `own.phase.residual` ‖F(u)‖ (batch,).
        references: `references.free` is the fixed point it leads to, `hep_exact` and `rbp` are the error
            vectors there.
        parts: squared norms of the parts of J there, `symmetric` and `antisymmetric` (batch,).
        eigenvalue: of largest modulus of a synchronous step there (batch,), complex.
    """

    own: FreePhase
    references: References
    parts: JacobianParts
    eigenvalue: Array


def symmetry(measured: Measured) -> Array:
    """S. Source: METHOD §5."""
    return jacobian_symmetry(measured.parts)


def homeostatic(measured: Measured) -> Array:
    """2‖A‖_F²/n. Source: METHOD §4."""
    return 2 * measured.parts.antisymmetric / num_units(measured.own.phase.state)


def radius(measured: Measured) -> Array:
    """Spectral radius of a synchronous step at u*. Source: METHOD §5."""
    return jnp.abs(measured.eigenvalue)


def residual(measured: Measured) -> Array:
    """log10 ‖F(u)‖ at the end of the run's own free phase."""
    return log10_residual(measured.own.phase.residual)
