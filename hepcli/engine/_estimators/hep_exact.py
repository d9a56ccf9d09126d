"""`hep_exact`: the derivative the Cauchy sum converges to."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from hepcli.engine._estimators.linear import solve_forward
from hepcli.engine._problem import FreePhase
from hepcli.engine._sweep import Groups, make_sweep, update_groups
from hepcli.engine._types import PhaseReport, State, Sweep


def hep_exact(free: FreePhase) -> tuple[State, PhaseReport]:
    """e = dr*/dβ at β = 0 by forward mode, `nudged_steps` steps linearised at u*.

    The linearisation is taken once, so a step costs one product per connection.

    Args:
        free: the problem at its free fixed point.

    Returns:
        e per layer, real (batch, *units), and the record of the linear iteration.

    Source: paper, Eq. 8 (METHOD §3).
    """
    problem = free.problem

    def dynamics(groups: Groups, beta: Array) -> Sweep:
        return make_sweep(problem.system, problem.params, groups, free.constant, beta, problem.targets)

    return derivative_signal(free, update_groups(problem.system, problem.relaxation.solver), dynamics)


def derivative_signal(
    free: FreePhase, groups: Groups, dynamics: Callable[[Groups, Array], Sweep]
) -> tuple[State, PhaseReport]:
    """Forward mode through nudged dynamics that rest at u* for β = 0.

    Args:
        free: the problem at its free fixed point.
        groups: groups of layers to update in turn.
        dynamics: groups, β -> the update of one group after the other.

    Returns:
        dr/dβ at 0 per layer, real (batch, *units), and the record of the linear iteration.
    """
    problem, state = free.problem, free.phase.state
    beta = jnp.zeros((), state["out"].dtype)
    _, tangent = jax.linearize(lambda u, b: dynamics(groups, b)(u), state, beta)
    response, record = solve_forward(
        lambda v: tangent(v, jnp.ones_like(beta)), state, len(groups), problem.relaxation
    )
    activation = problem.system.activation
    slopes = {name: jax.jvp(activation, (state[name],), (v,))[1] for name, v in response.items()}
    return slopes, record
