"""`hep_exact`: the derivative the Cauchy sum converges to."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from hepcli.engine._dynamics import Dynamics, network_update
from hepcli.engine._estimator import Estimator, local_learning
from hepcli.engine._norms import example_norm
from hepcli.engine._problem import FreePhase
from hepcli.engine._relax import report_of
from hepcli.engine._solver import iterate, make_solver
from hepcli.engine._types import PhaseReport, State


def hep_exact(free: FreePhase) -> tuple[State, PhaseReport]:
    """e = dr/dβ at β = 0 by forward mode through `nudged_steps` steps from u*, and of the activity there.

    Args:
        free: the problem at the end of its free phase.

    Returns:
        e per layer, real (batch, *units), and the record of the derivative.

    Source: Laborieux & Zenke (2024), Eq. 8 (METHOD §3).
    """
    problem, system = free.problem, free.problem.system

    def nudged(beta: Array) -> Dynamics:
        update = network_update(system, problem.params, free.constant, beta, problem.targets)
        return Dynamics(system.layers, system.edges, update)

    return derivative_signal(free, nudged)


def derivative_signal(free: FreePhase, nudged: Callable[[Array], Dynamics]) -> tuple[State, PhaseReport]:
    """Forward mode through nudged dynamics as they run from the end of the free phase, at β = 0.

    State and derivative move on together, so that every step has the linearisation of the state it starts
    from: an example that has not settled, or alternates between two states, is followed and not taken for
    a fixed point. At a fixed point all steps share one linearisation. Memory does not grow with the steps.

    Args:
        free: the problem at the end of its free phase.
        nudged: β -> the dynamics, without noise.

    Returns:
        dr/dβ per layer, real (batch, *units), and its record: the residual is how far one more step would
        move du/dβ.

    Source: published code of Laborieux & Zenke (2024) (METHOD §3, §9).
    """
    relaxation, start = free.problem.relaxation, free.phase.state
    solver, beta = make_solver(relaxation), jnp.zeros((), start["out"].dtype)
    at_rest = nudged(beta)

    def advance(carry: tuple[Any, Any], count: int | Array) -> tuple[Any, Any]:
        """The solver's state and memory, and their derivatives by β."""
        return jax.jvp(
            lambda own, b: solver.step(nudged(b), own[0], own[1], count),
            (carry[0], beta),
            (carry[1], jnp.ones_like(beta)),
        )

    first = start, solver.init(at_rest, start)
    passes = solver.num_passes(at_rest, relaxation.nudged_steps)
    end, count = iterate(
        advance,
        (first, jax.tree.map(jnp.zeros_like, first)),
        passes,
        relaxation.tolerance,
        batch_ndim=1,
        watched=lambda carry: (carry[0][0], carry[1][0]),
    )
    (state, _), (response, _) = end
    moved = jax.tree.map(jnp.subtract, advance(end, count)[1][0], response)
    record = report_of(example_norm(moved, 1), response, relaxation, count)
    activation = free.problem.system.activation
    return {name: jax.jvp(activation, (state[name],), (v,))[1] for name, v in response.items()}, record


HEP_EXACT = Estimator(local_learning(hep_exact), hep_exact)
