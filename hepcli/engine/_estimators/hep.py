"""`hep`: the Cauchy sum over nudged fixed points."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hepcli.engine._cauchy import cauchy_derivative, circle_points
from hepcli.engine._problem import FreePhase, activities
from hepcli.engine._relax import relax, report
from hepcli.engine._types import Phase, PhaseReport, State


def hep(free: FreePhase) -> tuple[State, PhaseReport]:
    """e = dr*/dβ at 0 by the Cauchy sum over N nudged fixed points (N = 1: one-sided difference).

    The nudged phases all start from u*. The real points of the circle run together as one real batch,
    the complex ones of its upper half together as one complex batch; the rest are conjugates.

    Args:
        free: the problem at its free fixed point.

    Returns:
        e per layer, real (batch, *units), and the record of the nudged phases.

    Source: paper, Eq. 9–10 (METHOD §3).
    """
    settings = free.problem.gradient
    real_betas, complex_betas = circle_points(settings.num_points, settings.beta_radius)
    real_phase = nudged_phases(free, jnp.asarray(real_betas))
    complex_phase = nudged_phases(free, jnp.asarray(complex_betas)) if len(complex_betas) else None

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


def nudged_phases(free: FreePhase, betas: Array) -> Phase:
    """Relax from u* under each of `betas` (points,), real or complex, all as one batch (points, batch, …)."""
    problem, start = free.problem, free.phase.state
    real_dtype = start["out"].dtype
    dtype = np.result_type(real_dtype, np.complex64) if jnp.iscomplexobj(betas) else real_dtype
    out_ndim = start["out"].ndim
    return relax(
        problem.system,
        problem.params,
        free.constant,
        {name: jnp.broadcast_to(u, (len(betas), *u.shape)).astype(dtype) for name, u in start.items()},
        steps=problem.relaxation.nudged_steps,
        settings=problem.relaxation,
        beta=betas.astype(dtype).reshape(-1, *[1] * out_ndim),
        targets=problem.targets,
        batch_ndim=2,
    )


def _worst(real_phase: Phase, complex_phase: Phase | None) -> PhaseReport:
    """One record of both batches of points."""
    if complex_phase is None:
        return report(real_phase)
    real, upper = report(real_phase), report(complex_phase)
    return PhaseReport(
        jnp.maximum(real.residual, upper.residual),
        real.converged & upper.converged,
        real.finite & upper.finite,
        jax.lax.max(real.sweeps, upper.sweeps),
    )
