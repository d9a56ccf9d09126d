"""From a problem to its free phase, and from an error vector to a gradient."""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from hepcli.engine._dynamics import drive_at, vector_field
from hepcli.engine._norms import all_finite, example_norm
from hepcli.engine._relax import relax
from hepcli.engine._types import Estimate, Gradient, Params, Phase, PhaseReport, Problem, SignalSums, State
from hepcli.settings import CYCLIC, SOLVERS, RelaxationSettings, flow_levels


class FreePhase(NamedTuple):
    """A problem at the end of its free phase.

    Attributes:
        problem: the batch and the network.
        constant: `System.input_drive` of the batch.
        phase: the free phase; its state is u*, for examples that have settled a fixed point.
    """

    problem: Problem
    constant: State
    phase: Phase


def free_phase(problem: Problem, start: State | None = None) -> FreePhase:
    """Relax without a nudge, from `start` or where the problem says; in `free_precision`, if that is lower.

    The state then comes back in the precision of the parameters, and so does its residual: that of a fixed
    point of lower precision is its rounding error, so that an example also counts as settled up to the
    machine epsilon of that precision times ‖u‖. `finite` is that of the lower precision, whose range is
    smaller.

    Without feedback the phase is one pass from the input up (with synchronous steps, as many as there are
    levels), whatever steps and order the settings name: that is the fixed point.

    A phase ends after its steps whatever its examples do: one that is slow, or alternates between two states,
    keeps the last of them, with its residual.

    Raises:
        ValueError: there is noise but the problem has no key.
    """
    system, relaxation = problem.system, problem.relaxation
    constant = system.input_drive(problem.params, problem.inputs)
    start = problem.start if start is None else start
    state = system.zero_state(problem.inputs) if start is None else start
    arrays = problem.params, constant, state
    lower = relaxation.free_precision != "float32"
    if lower:
        arrays = jax.tree.map(lambda leaf: leaf.astype(relaxation.free_precision), arrays)
    keys = phase_keys(problem, "free")
    settings = one_pass_up(problem) or relaxation
    phase = relax(system, *arrays, steps=settings.free_steps, settings=settings, keys=keys)
    if lower:
        end = {name: u.astype(state[name].dtype) for name, u in phase.state.items()}
        residual = example_norm(vector_field(system, problem.params, constant, end), 1)
        epsilon = float(jnp.finfo(relaxation.free_precision).eps)  # type: ignore[no-untyped-call]
        rounding = epsilon * example_norm(end, 1)
        settled = residual <= jnp.maximum(relaxation.converged_residual, rounding)
        phase = Phase(end, residual, settled, phase.finite, phase.passes)
    return FreePhase(problem, constant, phase)


def one_pass_up(problem: Problem) -> RelaxationSettings | None:
    """The settings of a network without feedback, with phases of one pass; None for one with feedback."""
    levels = flow_levels(tuple(problem.system.layers), tuple(problem.system.edges))
    if levels is None:
        return None
    relaxation, count = problem.relaxation, len(levels)
    free, nudged = (
        "alternating" if SOLVERS.is_own(name) else name  # one of the user's own may need more passes
        for name in (relaxation.solver, relaxation.nudged_solver)
    )
    return replace(
        relaxation, free_steps=count, nudged_steps=count, order=CYCLIC, solver=free, nudged_solver=nudged
    )


_PHASES = ("free", "nudged", "nudged_complex", "online", "reverse", "midpoint", "difference", "sign", "own")


def phase_keys(problem: Problem, phase: str) -> Array | None:
    """Where the noise of each example grows from in a phase (batch,); None for a problem without a key."""
    if problem.key is None:
        return None
    key = jax.random.fold_in(problem.key, _PHASES.index(phase))
    places = jnp.arange(len(problem.inputs)) if problem.places is None else problem.places
    keys: Array = jax.vmap(jax.random.fold_in, (None, 0))(key, places)
    return keys


def random_keys(problem: Problem) -> Array:
    """A key for each example (batch,), for estimators that draw random numbers (`Traits.is_random`).

    Each step has other ones, and an example has the same however a batch is divided over devices or parts.

    Raises:
        ValueError: the problem has no key.
    """
    keys = phase_keys(problem, "own")
    if keys is None:
        raise ValueError("random numbers need a key: register the estimator with is_random=True")
    return keys


def nudge_sign(problem: Problem) -> float | Array:
    """The sign of the nudge of a batch, 1 or −1.

    Raises:
        ValueError: it is drawn at random but the problem has no key.
    """
    if problem.signal_settings.beta_sign == "positive":
        return 1.0
    if problem.key is None:
        raise ValueError("a random sign of the nudge needs a key")
    key = jax.random.fold_in(problem.key, _PHASES.index("sign"))
    sign: Array = jax.random.rademacher(key, (), problem.inputs.dtype)
    return sign


def activities(problem: Problem, state: State) -> State:
    """r = σ(u) per layer (…, *units), real or complex like the state. Source: METHOD §1."""
    return {name: problem.system.activation(name, u) for name, u in state.items()}


def learned_examples(problem: Problem, free: Phase | PhaseReport) -> Bool[Array, " batch"] | None:
    """Which examples are learned from by `relaxation.unsettled`; None for all, settled or not."""
    return free.settled if problem.relaxation.unsettled == "skip" else None


def count_of(problem: Problem, learned: Bool[Array, " batch"] | None) -> Float[Array, ""]:
    """How many examples are learned from."""
    inputs = problem.inputs
    if learned is None:
        return jnp.asarray(inputs.shape[0], inputs.dtype)
    return learned.sum(dtype=inputs.dtype)


def only(chosen: Bool[Array, " batch"], tree: State) -> State:
    """Zeros for the other examples: not factors of zero, because those may hold infinities."""
    return {name: jnp.where(chosen.reshape(-1, *[1] * (u.ndim - 1)), u, 0.0) for name, u in tree.items()}


def signal_sums(
    signal: State, free: Phase | PhaseReport, counted: Bool[Array, " batch"] | None = None
) -> SignalSums:
    """Sum error signals (batch, *units) over the examples that did not settle, and over all.

    Args:
        signal: e per layer, real.
        free: the free phase.
        counted: which examples count; None for all.
    """
    chosen = all_finite(signal, 1)
    if counted is not None:
        chosen = chosen & counted

    def total(chosen: Array) -> State:
        return {name: e.sum(axis=0) for name, e in only(chosen, signal).items()}

    return SignalSums(total(chosen & ~free.settled), total(chosen))


def summed_gradient(
    problem: Problem, state: State, error_vector: State, learned: Bool[Array, " batch"] | None = None
) -> Gradient:
    """The local learning rule: (∂F/∂θ)ᵀ e plus the direct readout gradient, summed over the examples learned.

    Args:
        problem: the batch and the network.
        state: pre-activations u at which the rule is applied (batch, *units), real.
        error_vector: e per layer, real, same shapes.
        learned: which examples count; None for all. The others may hold anything.

    Returns:
        The gradient, with the structure of the parameters; zero where no example counts.

    Source: Laborieux & Zenke (2024), Eq. 6–7 (METHOD §3).
    """
    if learned is not None:
        state, error_vector = only(learned, state), only(learned, error_vector)
    through_states = drive_gradient(problem, activities(problem, state), error_vector)
    gradient: Gradient = jax.tree.map(jnp.add, through_states, readout_gradient(problem, state, learned))
    return gradient


def drive_gradient(problem: Problem, activity: State, cotangent: State) -> Gradient:
    """(∂F/∂θ)ᵀ c, summed over examples: for a kernel the sum of products of c behind it and r before it.

    Args:
        problem: the batch and the network.
        activity: r at which F is taken (batch, *units), real or complex.
        cotangent: c per layer, likewise.

    Returns:
        Its real part, with the structure of the parameters; the readout, which F does not contain, is zero.
    """
    system = problem.system

    def total(params: Params) -> State:
        constant = system.input_drive(params, problem.inputs)
        return drive_at(system, params, system.layers, activity, constant)

    gradient: Gradient = jax.vjp(total, problem.params)[1](cotangent)[0]
    return gradient


def readout_gradient(
    problem: Problem, state: State, learned: Bool[Array, " batch"] | None = None
) -> Gradient:
    """∂L/∂θ at fixed activity of ``out``, summed over the examples learned."""
    system = problem.system

    def readout_loss(params: Params) -> Array:
        losses = system.loss(params, activities(problem, state)["out"], problem.targets)
        return jnp.sum(losses if learned is None else jnp.where(learned, losses, 0.0))

    gradient: Gradient = jax.grad(readout_loss)(problem.params)
    return gradient


def learn_locally(
    problem: Problem, state: State, error_vector: State, free: PhaseReport, nudged: PhaseReport | None
) -> Estimate:
    """The estimate of an error vector (batch, *units) at `state`: its gradient, and its records."""
    learned = learned_examples(problem, free)
    gradient = summed_gradient(problem, state, error_vector, learned)
    return Estimate(state, error_vector, gradient, count_of(problem, learned), free, nudged, error_vector)
