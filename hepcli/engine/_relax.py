"""Phases: relaxing a state under a nudge or none, and what is kept of it."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from hepcli.engine._dynamics import Dynamics, network_update
from hepcli.engine._iterate import Context
from hepcli.engine._norms import all_finite, example_norm
from hepcli.engine._solver import DynamicsOf, solve
from hepcli.engine._types import Params, Phase, PhaseReport, State, System
from hepcli.settings import RelaxationSettings

P = ParamSpec("P")
R = TypeVar("R")


def in_float32(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function take its products in float32, whatever those of the run are (`run.matmul_precision`).

    For what divides a difference of states by |β|: in deep networks the signal of low layers is a
    hundred-thousandth of their states, of which tensorfloat32 rounds away a thousandth.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.default_matmul_precision("float32"):
            return function(*args, **kwargs)

    return run


def relax(
    system: System,
    params: Params,
    constant: State,
    state: State,
    *,
    steps: int,
    settings: RelaxationSettings,
    beta: Array | None = None,
    targets: Array | None = None,
    keys: Array | None = None,
    by_reverse_mode: bool = False,
) -> Phase:
    """Run a phase: relax `state` towards the fixed point of F( · ; β).

    Args:
        system: the network.
        params: its parameters, real.
        constant: `System.input_drive` of the batch.
        state: pre-activations to start from (batch, *units), complex for a complex nudge.
        steps: most steps in the sense of the synchronous dynamics.
        settings: solver, tolerance, noise, and when an example counts as settled.
        beta: nudge, one for all or (batch, *1); None for the free phase.
        targets: targets (batch, classes), needed with `beta`.
        keys: random keys of the examples (batch,), needed where there is noise.
        by_reverse_mode: whether the phase will be differentiated in reverse mode: without mixing, and where
            all passes would take much memory, with what a pass needs computed again. Takes tolerance 0.

    Returns:
        The final state with its true residual, per-example flags and passes.

    Raises:
        ValueError: there is noise but there are no keys.

    Source: Laborieux & Zenke (2024), Eq. 1–3 (METHOD §1).
    """
    drive, shared = split_drive(constant, state)
    each_has_its_own = beta is not None and beta.ndim > 0
    nudges = beta if each_has_its_own else None
    context = {"drive": drive, "targets": targets, "beta": nudges, "keys": keys}

    def dynamics_of(own: Context) -> Dynamics:
        nudge = beta if own["beta"] is None else own["beta"]
        update = network_update(system, params, shared | own["drive"], nudge, own["targets"])
        return Dynamics(system.layers, system.edges, update, noise_std=settings.noise_std, keys=own["keys"])

    return run_phase(dynamics_of, context, state, steps, settings, by_reverse_mode=by_reverse_mode)


def split_drive(constant: State, state: State) -> tuple[State, State]:
    """Tell what differs between the examples of a state (batch, *units) from what they share."""
    own = {name for name, drive in constant.items() if drive.ndim == state[name].ndim}
    return (
        {name: drive for name, drive in constant.items() if name in own},
        {name: drive for name, drive in constant.items() if name not in own},
    )


def run_phase(
    dynamics_of: DynamicsOf,
    context: Context,
    state: State,
    steps: int,
    settings: RelaxationSettings,
    *,
    by_reverse_mode: bool = False,
) -> Phase:
    """Run a phase of any dynamics; its residual is how far the synchronous step without noise would go on."""
    end, passes = solve(settings, dynamics_of, context, state, steps, by_reverse_mode=by_reverse_mode)
    residual = example_norm(dynamics_of(context).change(end), 1)
    return Phase(end, residual, residual <= settings.converged_residual, all_finite(end, 1), passes)


def report_of(residual: Array, state: State, settings: RelaxationSettings, passes: Array) -> PhaseReport:
    """What an iteration that is no phase leaves on record; `state` (batch, *units) is what it came to."""
    return PhaseReport(residual, residual <= settings.converged_residual, all_finite(state, 1), passes)


def report(phase: Phase) -> PhaseReport:
    """What a phase leaves on record: per example the worst over all leading axes."""
    leading = tuple(range(phase.residual.ndim - 1))
    worst: Callable[[Array], Array] = lambda flag: jnp.all(flag, axis=leading)  # noqa: E731
    return PhaseReport(
        jnp.max(phase.residual, axis=leading),
        worst(phase.settled),
        worst(phase.finite),
        jnp.max(phase.passes, axis=leading),
    )


def log10_residual(residual: Array) -> Array:
    """log10 of a residual, real, of any shape, with the published code's floor of 1e-8 (METHOD §1)."""
    return jnp.log10(residual + 1e-8)
