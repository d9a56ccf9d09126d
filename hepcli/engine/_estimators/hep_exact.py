"""`hep_exact`: the derivative the Cauchy sum converges to."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from hepcli.engine._dynamics import Dynamics, network_update
from hepcli.engine._estimator import built_in, local_learning
from hepcli.engine._iterate import Context, Pass, iterate
from hepcli.engine._norms import example_norm
from hepcli.engine._problem import FreePhase
from hepcli.engine._relax import report_of, split_drive
from hepcli.engine._solver import make_solver
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
    drive, shared = split_drive(free.constant, free.phase.state)

    def nudged(own: Context, beta: Array) -> Dynamics:
        update = network_update(system, problem.params, shared | own["drive"], beta, own["targets"])
        return Dynamics(system.layers, system.edges, update)

    return derivative_signal(free, nudged, {"drive": drive, "targets": problem.targets})


def derivative_signal(
    free: FreePhase, nudged: Callable[[Context, Array], Dynamics], context: Context
) -> tuple[State, PhaseReport]:
    """Forward mode through nudged dynamics as they run from the end of the free phase, at β = 0.

    State and derivative move on together, so that every step has the linearisation of the state it starts
    from: an example that has not settled, or alternates between two states, is followed and not taken for
    a fixed point. At a fixed point all steps share one linearisation. Memory does not grow with the steps.
    Passes are never mixed: mixtures of state and derivative would have other weights than those of nudged
    states, and the result would no longer be the limit of theirs.

    Args:
        free: the problem at the end of its free phase.
        nudged: (context of some examples, β) -> their dynamics, without noise.
        context: of all examples.

    Returns:
        dr/dβ per layer, real (batch, *units), and its record: the residual is how far one more pass would
        move du/dβ.

    Source: published code of Laborieux & Zenke (2024) (METHOD §3, §9).
    """
    settings, start = free.problem.relaxation.nudged, free.phase.state
    solver, beta = make_solver(settings), jnp.zeros((), start["out"].dtype)

    def prepare(own: Context) -> Pass[tuple[State, State]]:
        def advance(both: tuple[State, State], count: int | Array) -> tuple[State, State]:
            """The state and its derivative with respect to β."""
            state, response = both
            return jax.jvp(
                lambda u, b: solver.step(nudged(own, b), u, count),
                (state, beta),
                (response, jnp.ones_like(beta)),
            )

        return advance

    first = start, jax.tree.map(jnp.zeros_like, start)
    passes = solver.num_passes(nudged(context, beta), settings.nudged_steps)
    (state, response), count = iterate(prepare, context, first, passes, settings.tolerance)
    moved = jax.tree.map(jnp.subtract, prepare(context)((state, response), passes)[1], response)
    record = report_of(example_norm(moved, 1), response, settings, count)
    activation = free.problem.system.activation
    return {
        name: jax.jvp(partial(activation, name), (state[name],), (v,))[1] for name, v in response.items()
    }, record


HEP_EXACT = built_in("hep_exact", local_learning(hep_exact), hep_exact)
