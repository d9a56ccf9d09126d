"""Phases: relaxing a state under a nudge or none, and what is kept of it."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from hepcli.engine._dynamics import Dynamics, network_update
from hepcli.engine._norms import all_finite, example_norm
from hepcli.engine._solver import make_solver, solve
from hepcli.engine._types import Params, Phase, PhaseReport, State, System
from hepcli.settings import RelaxationSettings


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
    batch_ndim: int = 1,
    key: Array | None = None,
) -> Phase:
    """Run a phase: relax `state` towards the fixed point of F( · ; β).

    Args:
        system: the network.
        params: its parameters, real.
        constant: `System.input_drive` of the batch.
        state: pre-activations to start from, complex for a complex nudge.
        steps: steps in the sense of the synchronous dynamics.
        settings: solver, tolerance, noise, and when an example counts as settled.
        beta: nudge; None for the free phase.
        targets: targets, needed with `beta`.
        batch_ndim: leading axes of the state that count examples (1, or 2 with several nudges at once).
        key: where the noise grows from, needed where there is any.

    Returns:
        The final state with its true residual, per-example flags and the passes run.

    Source: Laborieux & Zenke (2024), Eq. 1–3 (METHOD §1).
    """
    update = network_update(system, params, constant, beta, targets)
    dynamics = Dynamics(
        system.layers, system.edges, update,
        batch_ndim=batch_ndim, noise_std=settings.noise_std, key=key,
    )  # fmt: skip
    return run_phase(dynamics, state, steps, settings)


def run_phase(dynamics: Dynamics, state: State, steps: int, settings: RelaxationSettings) -> Phase:
    """Run a phase of any dynamics; its residual is how far the synchronous step without noise would go on."""
    end, passes = solve(make_solver(settings), dynamics, state, steps, settings.tolerance)
    residual = example_norm(dynamics.change(end), dynamics.batch_ndim)
    finite = all_finite(end, dynamics.batch_ndim)
    return Phase(end, residual, residual <= settings.converged_residual, finite, passes)


def report_of(residual: Array, state: State, settings: RelaxationSettings, passes: Array) -> PhaseReport:
    """What an iteration that is no phase leaves on record; `state` (batch, *units) is what it came to."""
    return PhaseReport(residual, residual <= settings.converged_residual, all_finite(state, 1), passes)


def report(phase: Phase) -> PhaseReport:
    """What a phase leaves on record: per example the worst over all leading axes."""
    leading = tuple(range(phase.residual.ndim - 1))
    worst: Callable[[Array], Array] = lambda flag: jnp.all(flag, axis=leading)  # noqa: E731
    return PhaseReport(
        jnp.max(phase.residual, axis=leading), worst(phase.settled), worst(phase.finite), phase.passes
    )


def log10_residual(residual: Array) -> Array:
    """log10 of a residual with the reference code's floor of 1e-8."""
    return jnp.log10(residual + 1e-8)
