"""`hep_exact`: the derivative the Cauchy sum converges to."""

import jax
import jax.numpy as jnp

from hepcli.engine._estimators.linear import solve_forward
from hepcli.engine._problem import FreePhase
from hepcli.engine._sweep import make_sweep, update_groups
from hepcli.engine._types import PhaseReport, State


def hep_exact(free: FreePhase) -> tuple[State, PhaseReport]:
    """e = dr*/dβ at β = 0 by forward mode, `nudged_steps` steps linearised at u*.

    The linearisation is taken once, so a step costs one product per connection.

    Args:
        free: the problem at its free fixed point.

    Returns:
        e per layer, real (batch, *units), and the record of the linear iteration.

    Source: paper, Eq. 8 (METHOD §3).
    """
    problem, state = free.problem, free.phase.state
    system, relaxation = problem.system, problem.relaxation
    groups = update_groups(system, relaxation.solver)

    def perturbed(u: State, beta: jax.Array) -> State:
        sweep = make_sweep(system, problem.params, groups, free.constant, beta, problem.targets)
        return sweep(u)

    beta = jnp.zeros((), state["out"].dtype)
    _, tangent = jax.linearize(perturbed, state, beta)
    response, record = solve_forward(
        lambda v: tangent(v, jnp.ones_like(beta)), state, len(groups), relaxation
    )
    slopes = {name: jax.jvp(system.activation, (state[name],), (v,))[1] for name, v in response.items()}
    return slopes, record
