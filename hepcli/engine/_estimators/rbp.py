"""`rbp` and `neumann_rbp`: the true gradient at the fixed point, by the transposed dynamics."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from hepcli.engine._dynamics import Dynamics, drive
from hepcli.engine._estimator import built_in, local_learning
from hepcli.engine._iterate import Context, Pass, iterate
from hepcli.engine._norms import example_norm
from hepcli.engine._problem import FreePhase
from hepcli.engine._relax import report_of, split_drive
from hepcli.engine._solver import make_solver, solve
from hepcli.engine._types import PhaseReport, Problem, State
from hepcli.settings import Layers


def rbp(free: FreePhase) -> tuple[State, PhaseReport]:
    """e ← e + J_uᵀ e + ∂L/∂u from 0: recurrent backpropagation.

    Its limit is −J_u^{-T} ∂L/∂u, the adjoint of the fixed point, in activity coordinates like all
    error vectors (METHOD §3). With the alternating solver the groups are updated against the flow.

    J_u is taken once, at the end of the free phase, settled or not, as in the published code. For an example
    that has not settled e is the adjoint of a state that moves on; where the step there is no contraction,
    e grows with `adjoint_steps`.

    Args:
        free: the problem at the end of its free phase.

    Returns:
        e per layer, real (batch, *units), and the record of the iteration; its residual is how far one
        more would move e.

    Source: Laborieux & Zenke (2024), Eq. 5; Almeida (1987), Pineda (1987) (METHOD §3).
    """
    settings, steps = free.problem.relaxation.nudged, free.problem.signal_settings.adjoint_steps
    examples_of, context = _by_example(free)

    def dynamics_of(own: Context) -> Dynamics:
        return adjoint_dynamics(*examples_of(own))

    start = jax.tree.map(jnp.zeros_like, free.phase.state)
    end, passes = solve(settings, dynamics_of, context, start, steps)
    moved = make_solver(settings).step(dynamics_of(context), end, 0)
    residual = example_norm(jax.tree.map(jnp.subtract, moved, end), 1)
    return end, report_of(residual, end, settings, passes)


def adjoint_dynamics(problem: Problem, constant: State, state: State, scale: float | Array = 1.0) -> Dynamics:
    """e ← e + J_uᵀ e + scale · ∂L/∂u, with J_u and L taken at `state`.

    Args:
        problem: the batch and the network.
        constant: `System.input_drive` of the batch.
        state: pre-activations (batch, *units), real.
        scale: factor of the source.

    Returns:
        Dynamics of error vectors; they run against the flow, since updating a layer's adjoint needs those of
        the layers it drives.
    """
    pull_back, source = _pull_back(problem, constant, state), _loss_gradient(problem, state)

    def update(e: State, layers: Layers) -> State:
        pulled = pull_back(e)
        return {name: pulled[name] + scale * source[name] for name in layers}

    return Dynamics(problem.system.layers, problem.system.edges, update, backwards=True)


def neumann_rbp(free: FreePhase) -> tuple[State, PhaseReport]:
    """The series e = Σ_k (I + J_uᵀ)^k ∂L/∂u, summed term by term; same limit as `rbp`.

    Unsettled examples are treated as there.

    Source: Liao et al. (2018), "Reviving and improving recurrent back-propagation", §3 (METHOD §3).
    """
    settings, terms = free.problem.relaxation.nudged, free.problem.signal_settings.adjoint_steps
    examples_of, context = _by_example(free)

    def prepare(own: Context) -> Pass[tuple[State, State]]:
        pull_back = _pull_back(*examples_of(own))

        def add_term(carry: tuple[State, State], count: int | Array) -> tuple[State, State]:
            total, term = carry
            term = pull_back(term)
            return jax.tree.map(jnp.add, total, term), term

        return add_term

    source = _loss_gradient(free.problem, free.phase.state)
    (total, last), passes = iterate(prepare, context, (source, source), terms, settings.tolerance)
    return total, report_of(example_norm(last, 1), total, settings, passes)


def _by_example(free: FreePhase) -> tuple[Callable[[Context], tuple[Problem, State, State]], Context]:
    """The context of all examples, and from that of some their problem, input drive and u*."""
    drive, shared = split_drive(free.constant, free.phase.state)

    def examples_of(own: Context) -> tuple[Problem, State, State]:
        return free.problem._replace(targets=own["targets"]), shared | own["drive"], own["state"]

    return examples_of, {"drive": drive, "targets": free.problem.targets, "state": free.phase.state}


def _pull_back(problem: Problem, constant: State, state: State) -> Callable[[State], State]:
    """e ↦ (1 + J_u)ᵀ e; what is not read of it is compiled away."""
    system, params = problem.system, problem.params
    transposed: Callable[[State], tuple[State]]
    _, transposed = jax.vjp(lambda u: drive(system, params, system.layers, u, constant), state)

    def pull_back(e: State) -> State:
        pulled: State = transposed({name: e[name] for name in system.layers})[0]
        return pulled

    return pull_back


def _loss_gradient(problem: Problem, state: State) -> State:
    """∂L/∂u, zero but for ``out``."""

    def total_loss(u_out: Array) -> Array:
        out_activity = problem.system.activation("out", u_out)
        return jnp.sum(problem.system.loss(problem.params, out_activity, problem.targets))

    zeros: State = jax.tree.map(jnp.zeros_like, state)
    return zeros | {"out": jax.grad(total_loss)(state["out"])}


RBP = built_in("rbp", local_learning(rbp), rbp)
NEUMANN_RBP = built_in("neumann_rbp", local_learning(neumann_rbp), neumann_rbp)
