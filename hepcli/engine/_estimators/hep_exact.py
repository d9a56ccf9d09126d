"""`hep_exact`: the derivative the Cauchy sum converges to."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from hepcli.engine._problem import FreePhase
from hepcli.engine._relax import all_finite, example_norm, iterate
from hepcli.engine._sweep import Groups, make_sweep, num_sweeps, update_groups
from hepcli.engine._types import PhaseReport, State, Sweep


def hep_exact(free: FreePhase) -> tuple[State, PhaseReport]:
    """e = dr/dβ at β = 0 by forward mode through `nudged_steps` steps from u*, and of the activity there.

    Args:
        free: the problem at the end of its free phase.

    Returns:
        e per layer, real (batch, *units), and the record of the derivative.

    Source: paper, Eq. 8 (METHOD §3).
    """
    problem = free.problem

    def dynamics(groups: Groups, beta: Array) -> Sweep:
        return make_sweep(problem.system, problem.params, groups, free.constant, beta, problem.targets)

    return derivative_signal(free, update_groups(problem.system, problem.relaxation.solver), dynamics)


def derivative_signal(
    free: FreePhase, groups: Groups, dynamics: Callable[[Groups, Array], Sweep]
) -> tuple[State, PhaseReport]:
    """Forward mode through nudged dynamics as they run from the end of the free phase, at β = 0.

    State and derivative move on together, so that every step has the linearisation of the state it starts
    from: an example that has not settled, or alternates between two states, is followed and not taken for
    a fixed point. At a fixed point all steps share one linearisation. Memory does not grow with the steps.

    Args:
        free: the problem at the end of its free phase.
        groups: groups of layers to update in turn.
        dynamics: groups, β -> the update of one group after the other.

    Returns:
        dr/dβ per layer, real (batch, *units), and its record: the residual is how far one more step would
        move du/dβ.

    Source: published code of the paper (METHOD §3, §9).
    """
    relaxation, start = free.problem.relaxation, free.phase.state
    beta = jnp.zeros((), start["out"].dtype)

    def advance(carry: tuple[State, State]) -> tuple[State, State]:
        state, response = carry
        return jax.jvp(lambda u, b: dynamics(groups, b)(u), (state, beta), (response, jnp.ones_like(beta)))

    rest = start, jax.tree.map(jnp.zeros_like, start)
    sweeps = num_sweeps(len(groups), relaxation.nudged_steps)
    end, count = iterate(lambda carry, _: advance(carry), rest, sweeps, relaxation.tolerance, batch_ndim=1)
    state, response = end
    moved = jax.tree.map(jnp.subtract, advance(end)[1], response)
    residual = example_norm(moved, 1)
    record = PhaseReport(residual, residual <= relaxation.converged_residual, all_finite(response, 1), count)
    activation = free.problem.system.activation
    return {name: jax.jvp(activation, (state[name],), (v,))[1] for name, v in response.items()}, record
