"""How far a learning signal is from its references, and why: finite nudges and asymmetry."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

from hepcli.engine._cauchy import cauchy_derivative
from hepcli.engine._estimator import estimator_of
from hepcli.engine._estimators.bptt import bptt_gradient
from hepcli.engine._estimators.hep_exact import hep_exact
from hepcli.engine._estimators.rbp import rbp
from hepcli.engine._norms import example_norm
from hepcli.engine._problem import FreePhase, activities, free_phase, signal_sums, summed_gradient
from hepcli.engine._types import Gradient, Phase, PhaseReport, Problem, SignalSums, State

NudgedPhases = Callable[[Array], Phase]

_NUDGES_AT_ONCE = 32


class ReferenceSettings(NamedTuple):
    """How far references are converged.

    Attributes:
        max_steps: most steps of the fixed point and of each linear solve.
        tolerance: a solve stops once every example moves less than this in a pass.
        fixed_point_residual: largest ‖F(u*)‖ of a fixed point that is accepted.
        relative_residual: largest residual of a linear solve, relative to its solution, that is accepted.
    """

    max_steps: int = 3000
    tolerance: float = 1e-13
    fixed_point_residual: float = 1e-8
    relative_residual: float = 1e-6


class References(NamedTuple):
    """Learning signals at the free fixed point.

    Attributes:
        free: the problem at its fixed point, relaxed far beyond the run's own free phase.
        hep_exact: dr*/dβ at 0, per layer (batch, *units), real.
        rbp: the adjoint, the true error vector, likewise.
        hep_exact_residual: of the linear solve, relative to its solution.
        rbp_residual: likewise.
        settled: the fixed point was reached.
        solved: both linear solves were.
    """

    free: FreePhase
    hep_exact: State
    rbp: State
    hep_exact_residual: Float[Array, " batch"]
    rbp_residual: Float[Array, " batch"]
    settled: Bool[Array, " batch"]
    solved: Bool[Array, " batch"]


class Comparison(NamedTuple):
    """A signal beside a reference, per layer and in ``total``, each (batch,); NaN where undefined."""

    cosine: dict[str, Array]
    relative_error: dict[str, Array]


def references(problem: Problem, start: State, settings: ReferenceSettings) -> References:
    """Converge the free fixed point without noise, and at it the exact and the true error vector.

    Args:
        problem: the batch and the network.
        start: state to go on from, such as the end of the run's own free phase.
        settings: when to stop and what to accept.

    Returns:
        The signals, with the residuals that were reached.

    Source: METHOD §3 and §5.
    """
    steps = settings.max_steps
    relaxation = replace(
        problem.relaxation,
        free_steps=steps,
        nudged_steps=steps,
        tolerance=settings.tolerance,
        nudged_tolerance="same",
        free_precision="float32",
        noise_std=0.0,
    )
    patient = problem._replace(
        relaxation=relaxation, gradient=replace(problem.signal_settings, adjoint_steps=steps)
    )
    free = free_phase(patient, start)
    exact, exact_report = hep_exact(free)
    true, true_report = rbp(free)
    exact_residual, true_residual = _relative(exact, exact_report), _relative(true, true_report)
    settled = free.phase.finite & (free.phase.residual <= settings.fixed_point_residual)
    limit = settings.relative_residual
    solved = (exact_residual <= limit) & (true_residual <= limit)
    return References(free, exact, true, exact_residual, true_residual, settled, solved)


def _relative(signal: State, report: PhaseReport) -> Array:
    """Residual over solution; a signal that vanishes altogether is solved exactly."""
    size = example_norm(signal, 1)
    return jnp.where(report.residual == 0, 0.0, report.residual / size)


def own_signal(problem: Problem, free: FreePhase) -> tuple[State, State | None]:
    """The error vector as the run itself computes it.

    Args:
        problem: with the run's own settings.
        free: the fixed point, where methods that start from one start.

    Returns:
        The state it belongs to, and the vector, both real (batch, *units) per layer; None for a method that
        has none (`bptt`).

    Raises:
        KeyError: there is no such method.
        ValueError: the problem has no gradient settings.
    """
    estimator = estimator_of(problem.signal_settings.method)
    if estimator.error_signal is not None:
        return free.phase.state, estimator.error_signal(free._replace(problem=problem))[0]
    result = estimator.estimate(problem)
    return result.state, result.error_vector


def own_sums(problem: Problem, free: FreePhase, counted: Bool[Array, " batch"]) -> SignalSums | None:
    """The run's own error signals at the end of its own free phase, summed over the examples that count.

    Methods without an `error_signal` run whole; which examples have settled is read from `free` all the same.

    Args:
        problem: with the run's own settings.
        free: the free phase as the run sets it.
        counted: which examples count.

    Returns:
        The sums over unsettled and over all examples; None for `bptt` where it skips the unsettled ones.
    """
    estimator = estimator_of(problem.signal_settings.method)
    if estimator.error_signal is not None:
        return signal_sums(estimator.error_signal(free)[0], free.phase, counted)
    result = estimator.estimate(problem)
    return None if result.signal is None else signal_sums(result.signal, free.phase, counted)


def compare(signal: State, reference: State) -> Comparison:
    """Cosine, and ‖signal − reference‖/‖reference‖, per layer and over all layers together.

    Args:
        signal: per layer (batch, *units), real.
        reference: likewise.

    Returns:
        Both measures per example. Source: METHOD §5.
    """
    flat = {name: (signal[name].reshape(len(e), -1), e.reshape(len(e), -1)) for name, e in reference.items()}
    flat["total"] = tuple(jnp.concatenate(part, axis=-1) for part in zip(*flat.values(), strict=True))  # type: ignore[assignment]
    cosine, relative_error = {}, {}
    for name, (own, true) in flat.items():
        own_size, true_size = jnp.linalg.norm(own, axis=-1), jnp.linalg.norm(true, axis=-1)
        cosine[name] = jnp.sum(own * true, axis=-1) / (own_size * true_size)
        relative_error[name] = jnp.linalg.norm(own - true, axis=-1) / true_size
    return Comparison(cosine, relative_error)


def gradient_sums(
    problem: Problem, state: State, signal: State, free: FreePhase, kept: Bool[Array, " batch"]
) -> tuple[Gradient, Gradient]:
    """Sums over the kept examples of the parameter gradient: the run's own, and by bptt without noise.

    Args:
        problem: with the run's own settings; bptt runs `nudged_steps` steps from the fixed point.
        state: where the local learning rule is applied; other rules start from the fixed point.
        signal: error vector per layer.
        free: the fixed point.
        kept: which examples count.

    Returns:
        Both gradients, the readout's included although it does not depend on the signal.
    """
    if estimator_of(problem.signal_settings.method).learns_locally:
        own = summed_gradient(problem, state, signal, kept)
    else:
        own = _gradient_of_kept(problem, free, kept)
    quiet = problem._replace(relaxation=replace(problem.relaxation, noise_std=0.0))
    return own, bptt_gradient(quiet, free.phase.state, kept)[0]


def _gradient_of_kept(problem: Problem, free: FreePhase, kept: Bool[Array, " batch"]) -> Gradient:
    """The gradient of the method itself from the fixed point, example by example, to leave some out."""
    estimate = estimator_of(problem.signal_settings.method).estimate
    rest = replace(problem.relaxation, free_steps=0, unsettled="learn", free_precision="float32")
    from_rest = problem._replace(relaxation=rest)
    places = jnp.arange(len(problem.inputs)) if problem.places is None else problem.places

    def add(total: Gradient, example: tuple[dict[str, Any], Array]) -> tuple[Gradient, None]:
        alone = jax.tree.map(lambda leaf: leaf[None], example[0])
        own = estimate(from_rest._replace(**alone)).gradient_sum
        return jax.tree.map(lambda sums, g: sums + jnp.where(example[1], g, 0.0), total, own), None

    of_examples = {
        "inputs": problem.inputs,
        "targets": problem.targets,
        "start": free.phase.state,
        "places": places,
    }
    zero = jax.tree.map(jnp.zeros_like, problem.params)
    total: Gradient = jax.lax.scan(add, zero, (of_examples, kept))[0]
    return total


class CircleScan(NamedTuple):
    """Error of the Cauchy sum over N and |β|.

    Attributes:
        relative_error: of the whole error vector to its limit (radii, numbers, batch).
        residual: worst nudged residual of the circle, likewise.
    """

    relative_error: Float[Array, "radii numbers batch"]
    residual: Float[Array, "radii numbers batch"]


def scan_circles(
    free: FreePhase, phases: NudgedPhases, exact: State, radii: Array, numbers: tuple[int, ...]
) -> CircleScan:
    """How the Cauchy sum converges to its limit with the number of points, for several radii.

    Every phase is run once: the circles of one radius share their points.

    Args:
        free: the fixed point.
        phases: the nudged phases that start there, `Estimator.nudged_phases`.
        exact: the limit, per layer (batch, *units), real.
        radii: |β| (radii,), real.
        numbers: values of N, at least one of them above 2.

    Returns:
        Errors and residuals per example.

    Source: Laborieux & Zenke (2024), §3.1 and Figure 2; METHOD §5.
    """
    turns = sorted({k / n for n in numbers for k in range(1, (n + 1) // 2)})
    angles_rad = 2 * np.pi * np.asarray(turns)
    at_rest = activities(free.problem, free.phase.state)

    def one_radius(radius: Array) -> CircleScan:
        real_phase = phases(jnp.stack([radius, -radius]))
        points = jax.lax.complex(radius * np.cos(angles_rad), radius * np.sin(angles_rad))
        upper_phase = phases(points)
        real, upper = (activities(free.problem, phase.state) for phase in (real_phase, upper_phase))
        errors, residuals = [], []
        for n in numbers:
            rows = jnp.asarray([turns.index(k / n) for k in range(1, (n + 1) // 2)], jnp.int32)
            ends = 2 - n % 2
            signal = {
                name: cauchy_derivative(
                    r[:1] - at_rest[name] if n == 1 else r[:ends],
                    upper[name][rows] if len(rows) else None,
                    n,
                    radius,
                )
                for name, r in real.items()
            }
            errors.append(compare(signal, exact).relative_error["total"])
            circle = jnp.concatenate([real_phase.residual[:ends], upper_phase.residual[rows]])
            residuals.append(circle.max(axis=0))
        return CircleScan(jnp.stack(errors), jnp.stack(residuals))

    result: CircleScan = jax.lax.map(one_radius, radii)
    return result


def nudged_residuals(phases: NudgedPhases, betas: Array) -> Float[Array, "points batch"]:
    """‖F(u; β)‖ at the end of nudged phases from u* under each of `betas` (points,), complex.

    A few nudges at a time, so that memory does not grow with their number.
    """
    result: Array = jax.lax.map(
        lambda beta: phases(beta[None]).residual[0], betas, batch_size=_NUDGES_AT_ONCE
    )
    return result
