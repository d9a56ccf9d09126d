"""From a problem to its free phase, and from an error vector to a gradient."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from hepcli.engine._relax import example_norm, relax
from hepcli.engine._sweep import vector_field
from hepcli.engine._types import Gradient, Params, Phase, Problem, State


class FreePhase(NamedTuple):
    """A problem at its free fixed point.

    Attributes:
        problem: the batch and the network.
        constant: `System.input_drive` of the batch.
        phase: the free phase; its state is u*.
    """

    problem: Problem
    constant: State
    phase: Phase


def free_phase(problem: Problem, start: State | None = None) -> FreePhase:
    """Relax without a nudge, from `start` or where the problem says; in `free_precision`, if that is lower.

    The state then comes back in the precision of the parameters, and so does its residual.
    """
    system, relaxation = problem.system, problem.relaxation
    constant = system.input_drive(problem.params, problem.inputs)
    start = problem.start if start is None else start
    state = system.zero_state(problem.inputs) if start is None else start
    arrays = problem.params, constant, state
    lower = relaxation.free_precision != "float32"
    if lower:
        arrays = jax.tree.map(lambda leaf: leaf.astype(relaxation.free_precision), arrays)
    key = phase_key(problem, "free")
    phase = relax(system, *arrays, steps=relaxation.free_steps, settings=relaxation, key=key)
    if lower:
        end = {name: u.astype(state[name].dtype) for name, u in phase.state.items()}
        residual = example_norm(vector_field(system, problem.params, constant, end), 1)
        phase = Phase(end, residual, residual <= relaxation.converged_residual, phase.finite, phase.sweeps)
    return FreePhase(problem, constant, phase)


_PHASES = ("free", "nudged", "nudged_complex", "online", "reverse", "midpoint", "difference")


def phase_key(problem: Problem, phase: str) -> Array | None:
    """Where the noise of a phase of a problem grows from; None for a problem without a key."""
    return None if problem.key is None else jax.random.fold_in(problem.key, _PHASES.index(phase))


def activities(problem: Problem, state: State) -> State:
    """r = σ(u) per layer."""
    return {name: problem.system.activation(u) for name, u in state.items()}


def parameter_gradient(problem: Problem, state: State, error_vector: State) -> Gradient:
    """The local learning rule: (∂F/∂θ)ᵀ e plus the direct readout gradient, mean over the batch.

    Args:
        problem: the batch and the network.
        state: pre-activations u at which the rule is applied (batch, *units), real.
        error_vector: e per layer, real, same shapes.

    Returns:
        The gradient, with the structure of the parameters.

    Source: paper, Eq. 6–7 (METHOD §3).
    """
    system, batch = problem.system, problem.inputs.shape[0]

    def field(params: Params) -> State:
        return vector_field(system, params, system.input_drive(params, problem.inputs), state)

    def readout_loss(params: Params) -> Array:
        return jnp.sum(system.loss(params, system.activation(state["out"]), problem.targets))

    _, pull_back = jax.vjp(field, problem.params)
    (through_states,) = pull_back(error_vector)
    direct = jax.grad(readout_loss)(problem.params)
    mean: Gradient = jax.tree.map(lambda a, b: (a + b) / batch, through_states, direct)
    return mean
