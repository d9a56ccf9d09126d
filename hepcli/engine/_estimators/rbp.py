"""`rbp` and `neumann_rbp`: the true gradient at the fixed point, by the transposed dynamics."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from hepcli.engine._problem import FreePhase
from hepcli.engine._relax import all_finite, example_norm, iterate
from hepcli.engine._sweep import Groups, drive, num_sweeps, update_groups
from hepcli.engine._types import PhaseReport, Problem, State, Sweep


def rbp(free: FreePhase) -> tuple[State, PhaseReport]:
    """e ← e + J_Fᵀ e + ∂L/∂u from 0: recurrent backpropagation.

    Its limit is −J_F^{-T} ∂L/∂u, the adjoint of the fixed point, in activity coordinates like all
    error vectors (see METHOD §8). With the alternating solver the groups are updated against the flow.

    J_F is taken once, at the end of the free phase, settled or not, as in the published code. For an example
    that has not settled e is the adjoint of a state that moves on; where the step there is no contraction,
    e grows with `adjoint_steps`.

    Args:
        free: the problem at the end of its free phase.

    Returns:
        e per layer, real (batch, *units), and the record of the iteration; its residual is how far one
        more would move e.

    Source: paper, Eq. 5; Almeida (1987), Pineda (1987).
    """
    problem, relaxation, state = free.problem, free.problem.relaxation, free.phase.state
    groups = update_groups(problem.system, relaxation.solver)
    sweep = adjoint_sweep(problem, free.constant, state, groups)
    start = jax.tree.map(jnp.zeros_like, state)
    sweeps = num_sweeps(len(groups), problem.gradient.adjoint_steps)
    end, count = iterate(lambda e, _: sweep(e), start, sweeps, relaxation.tolerance, batch_ndim=1)
    residual = example_norm(jax.tree.map(jnp.subtract, sweep(end), end), 1)
    record = PhaseReport(residual, residual <= relaxation.converged_residual, all_finite(end, 1), count)
    return end, record


def adjoint_sweep(
    problem: Problem, constant: State, state: State, groups: Groups, scale: float | Array = 1.0
) -> Sweep:
    """One update e ← e + J_Fᵀ e + scale · ∂L/∂u of every layer, J_F and L taken at `state`.

    Args:
        problem: the batch and the network.
        constant: `System.input_drive` of the batch.
        state: pre-activations (batch, *units), real.
        groups: groups of layers, in the order of the flow; the adjoint runs against it.
        scale: factor of the source.

    Returns:
        A function from error vector to error vector.
    """
    source, transposed = _adjoint(problem, constant, state, groups)
    # Updating group g's adjoint needs the adjoint of the group after it: last group first.
    order = list(zip(groups, transposed, strict=True))[::-1]

    def sweep(e: State) -> State:
        e = dict(e)
        for layers, pull_back in order:
            pulled = pull_back(e)
            e.update({name: pulled[name] + scale * source[name] for name in layers})
        return e

    return sweep


def neumann_rbp(free: FreePhase) -> tuple[State, PhaseReport]:
    """The series e = Σ_k (I + J_Fᵀ)^k ∂L/∂u, summed term by term; same limit as `rbp`.

    Unsettled examples are treated as there.

    Source: Liao et al. (2018), "Reviving and improving recurrent back-propagation", §3 (METHOD §3).
    """
    problem = free.problem
    groups: Groups = (problem.system.layers,)
    source, (pull_back,) = _adjoint(problem, free.constant, free.phase.state, groups)

    def add_term(carry: tuple[State, State]) -> tuple[State, State]:
        total, term = carry
        term = pull_back(term)
        return jax.tree.map(jnp.add, total, term), term

    relaxation, terms = problem.relaxation, problem.gradient.adjoint_steps
    end, count = iterate(
        lambda carry, _: add_term(carry), (source, source), terms, relaxation.tolerance, batch_ndim=1
    )
    total, last = end
    residual = example_norm(last, 1)
    return total, PhaseReport(
        residual, residual <= relaxation.converged_residual, all_finite(total, 1), count
    )


def _adjoint(
    problem: Problem, constant: State, state: State, groups: Groups
) -> tuple[State, list[Callable[[State], State]]]:
    """∂L/∂u, and per group the transposed derivative by its state of the updates of all layers."""
    system, params = problem.system, problem.params

    def pull_back_of(layers: tuple[str, ...]) -> Callable[[State], State]:
        def update(own: State) -> State:
            return drive(system, params, system.layers, state | own, constant)

        _, pull_back = jax.vjp(update, {name: state[name] for name in layers})
        return lambda e: pull_back({name: e[name] for name in system.layers})[0]

    def total_loss(u_out: jax.Array) -> jax.Array:
        return jnp.sum(system.loss(params, system.activation(u_out), problem.targets))

    source = jax.tree.map(jnp.zeros_like, state) | {"out": jax.grad(total_loss)(state["out"])}
    return source, [pull_back_of(layers) for layers in groups]
