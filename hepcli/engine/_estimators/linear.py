"""Affine fixed-point iterations v ← A v + b, as `hep_exact` and `rbp` need them."""

import jax
import jax.numpy as jnp

from hepcli.engine._relax import all_finite, example_norm, iterate
from hepcli.engine._sweep import num_sweeps
from hepcli.engine._types import PhaseReport, RelaxationSettings, State, Sweep


def solve_forward(
    update: Sweep, like: State, num_groups: int, relaxation: RelaxationSettings, steps: int | None = None
) -> tuple[State, PhaseReport]:
    """Iterate `update` from zero; the residual reported is the change under one more update.

    Args:
        update: v ↦ A v + b.
        like: a state with the shapes and dtypes of v (batch, *units).
        num_groups: groups of layers an update passes through.
        relaxation: its tolerance ends the iteration.
        steps: steps in the sense of the synchronous dynamics; `nudged_steps` unless given.

    Returns:
        v and its record.
    """
    start = jax.tree.map(jnp.zeros_like, like)
    sweeps = num_sweeps(num_groups, relaxation.nudged_steps if steps is None else steps)
    end, count = iterate(lambda v, _: update(v), start, sweeps, relaxation.tolerance, batch_ndim=1)
    again = update(end)
    residual = example_norm({name: again[name] - end[name] for name in end}, 1)
    converged = residual <= relaxation.converged_residual
    return end, PhaseReport(residual, converged, all_finite(end, 1), count)
