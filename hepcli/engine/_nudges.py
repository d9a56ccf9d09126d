"""Nudged phases on a circle, and the response of the activities that they give."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from hepcli.engine._cauchy import cauchy_derivative, circle_points
from hepcli.engine._problem import FreePhase, activities, nudge_sign, phase_keys
from hepcli.engine._relax import relax, report, split_drive
from hepcli.engine._types import Phase, PhaseReport, State

Tree = TypeVar("Tree")


class NudgeCircle(NamedTuple):
    """The phases of a circle of nudges, states (points, batch, *units).

    Attributes:
        radius: |β|; negative where the sign of a single nudge is.
        real: at its real points.
        upper: at its complex points of the upper half plane; None where there are none.
    """

    radius: float | Array
    real: Phase
    upper: Phase | None

    @property
    def record(self) -> PhaseReport:
        """One record of all points, the worst of them."""
        real = report(self.real)
        if self.upper is None:
            return real
        upper = report(self.upper)
        return PhaseReport(
            jnp.maximum(real.residual, upper.residual),
            real.settled & upper.settled,
            real.finite & upper.finite,
            jnp.maximum(real.passes, upper.passes),
        )


def run_circle(free: FreePhase, nudged: Callable[[Array], Phase]) -> NudgeCircle:
    """Run the nudged phases of the problem's circle.

    Args:
        free: the problem at the end of its free phase.
        nudged: nudges (points,), real or complex -> their phases, states (points, batch, *units).
    """
    settings = free.problem.signal_settings
    sign, radius = nudge_sign(free.problem), settings.beta_radius
    real_betas, complex_betas = circle_points(settings.num_points, radius)
    real = nudged(sign * jnp.asarray(real_betas))
    upper = nudged(jnp.asarray(complex_betas)) if len(complex_betas) else None
    return NudgeCircle(sign * radius, real, upper)


def cauchy_signal(free: FreePhase, nudged: Callable[[Array], Phase]) -> tuple[State, PhaseReport]:
    """The Cauchy sum over the activities of nudged phases, see `run_circle`.

    Returns:
        dr/dβ at 0 per layer, real (batch, *units), and the record of the nudged phases.

    Source: METHOD §3.
    """
    circle = run_circle(free, nudged)
    return response_on(circle, free), circle.record


def response_on(circle: NudgeCircle, free: FreePhase) -> State:
    """dr/dβ at 0 per layer, real (batch, *units), from the phases of a circle. Source: METHOD §3."""
    num_points = free.problem.signal_settings.num_points
    real = activities(free.problem, circle.real.state)
    if num_points == 1:
        at_rest = activities(free.problem, free.phase.state)
        real = {name: r - at_rest[name] for name, r in real.items()}
    upper = activities(free.problem, circle.upper.state) if circle.upper else {}
    return {
        name: cauchy_derivative(r, upper.get(name), num_points, circle.radius) for name, r in real.items()
    }


def nudged_phases(free: FreePhase) -> Callable[[Array], Phase]:
    """Phases from u* as a function of their nudges (points,), real or complex, run as one batch."""
    problem = free.problem
    settings = problem.relaxation.nudged_by(problem.signal_settings.beta_radius)

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
            keys=nudged_keys(free, betas),
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


def nudged_keys(free: FreePhase, betas: Array) -> Array | None:
    """Where the noise of such a batch grows from; conjugate points share it, conjugated."""
    keys = phase_keys(free.problem, "nudged_complex" if jnp.iscomplexobj(betas) else "nudged")
    if keys is None:
        return None
    points = jnp.arange(len(betas))
    of_one_point = jax.vmap(jax.random.fold_in, (0, None))
    return jax.vmap(of_one_point, (None, 0))(keys, points).ravel()
