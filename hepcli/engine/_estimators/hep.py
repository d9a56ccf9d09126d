"""`hep`: the Cauchy sum over nudged fixed points."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from hepcli.engine._cauchy import cauchy_derivative, circle_points
from hepcli.engine._estimator import Estimator, local_learning
from hepcli.engine._problem import FreePhase, activities, phase_key
from hepcli.engine._relax import relax, report, split_drive
from hepcli.engine._types import Phase, PhaseReport, State

Tree = TypeVar("Tree")


def hep(free: FreePhase) -> tuple[State, PhaseReport]:
    """e = dr*/dβ at 0 by the Cauchy sum over N nudged fixed points (N = 1: one-sided difference).

    The nudged phases all start where the free phase ended. For an example that has not settled they go on
    moving as it would without a nudge: what the points share of that motion cancels for N ≥ 2, but not for
    N = 1, where it is divided by |β|, as in the published code.

    The real points of the circle run together as one real batch, the complex ones of its upper half together
    as one complex batch; the rest are conjugates.

    Args:
        free: the problem at the end of its free phase.

    Returns:
        e per layer, real (batch, *units), and the record of the nudged phases.

    Source: Laborieux & Zenke (2024), Eq. 9–10 (METHOD §3).
    """
    return cauchy_signal(free, nudged_phases(free))


def cauchy_signal(free: FreePhase, nudged: Callable[[Array], Phase]) -> tuple[State, PhaseReport]:
    """The Cauchy sum over the activities of nudged phases.

    Args:
        free: the problem at the end of its free phase.
        nudged: nudges (points,), real or complex -> their phases, states (points, batch, *units).

    Returns:
        dr/dβ at 0 per layer, real (batch, *units), and the record of the nudged phases.
    """
    settings = free.problem.signal_settings
    real_betas, complex_betas = circle_points(settings.num_points, settings.beta_radius)
    real_phase = nudged(jnp.asarray(real_betas))
    complex_phase = nudged(jnp.asarray(complex_betas)) if len(complex_betas) else None

    real = activities(free.problem, real_phase.state)
    if settings.num_points == 1:
        at_rest = activities(free.problem, free.phase.state)
        real = {name: r - at_rest[name] for name, r in real.items()}
    upper = activities(free.problem, complex_phase.state) if complex_phase else {}
    error_vector = {
        name: cauchy_derivative(r, upper.get(name), settings.num_points, settings.beta_radius)
        for name, r in real.items()
    }
    return error_vector, _worst(real_phase, complex_phase)


def nudged_phases(free: FreePhase) -> Callable[[Array], Phase]:
    """Phases from u* as a function of their nudges (points,), real or complex, run as one batch."""
    problem = free.problem
    settings = problem.relaxation.nudged

    def phases(betas: Array) -> Phase:
        drive, shared = split_drive(free.constant, free.phase.state)
        phase = relax(
            problem.system,
            problem.params,
            shared | for_points(betas, drive),
            nudged_start(free, betas),
            steps=settings.nudged_steps,
            settings=settings,
            beta=nudge_of(free, betas),
            targets=for_points(betas, problem.targets),
            key=nudged_key(free, betas),
        )
        return by_point(betas, phase)

    return phases


def for_points(betas: Array, tree: Tree) -> Tree:
    """Arrays (batch, ...) once for each of `betas` (points,), as one batch (points · batch, ...)."""
    points = len(betas)
    repeated: Tree = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (points, *leaf.shape)).reshape(-1, *leaf.shape[1:]), tree
    )
    return repeated


def by_point(betas: Array, phase: Phase) -> Phase:
    """A phase of such a batch as one of states (points, batch, *units)."""
    points = len(betas)
    split: Phase = jax.tree.map(lambda leaf: leaf.reshape(points, -1, *leaf.shape[1:]), phase)
    return split


def nudged_start(free: FreePhase, betas: Array) -> State:
    """u* for each of `betas` (points,), complex where they are, (points · batch, *units)."""
    start = for_points(betas, free.phase.state)
    return {name: u.astype(_dtype(free, betas)) for name, u in start.items()}


def nudge_of(free: FreePhase, betas: Array) -> Array:
    """The nudge of each example of such a batch, (points · batch, *1)."""
    out = free.phase.state["out"]
    return jnp.repeat(betas.astype(_dtype(free, betas)), len(out)).reshape(-1, *[1] * (out.ndim - 1))


def _dtype(free: FreePhase, betas: Array) -> DTypeLike:
    real = free.phase.state["out"].dtype
    return np.result_type(real, np.complex64) if jnp.iscomplexobj(betas) else real


def nudged_key(free: FreePhase, betas: Array) -> Array | None:
    """Where the noise of the phases of `betas` grows from; conjugate points share it, conjugated."""
    return phase_key(free.problem, "nudged_complex" if jnp.iscomplexobj(betas) else "nudged")


def _worst(real_phase: Phase, complex_phase: Phase | None) -> PhaseReport:
    """One record of both batches of points."""
    if complex_phase is None:
        return report(real_phase)
    real, upper = report(real_phase), report(complex_phase)
    return PhaseReport(
        jnp.maximum(real.residual, upper.residual),
        real.settled & upper.settled,
        real.finite & upper.finite,
        jnp.maximum(real.passes, upper.passes),
    )


HEP = Estimator(local_learning(hep), hep, nudged_phases, uses_circle=True)
