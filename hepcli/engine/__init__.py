"""The numerical core: relaxation, error signals, gradients, homeostasis. Pure JAX, no I/O."""

from hepcli.engine._cauchy import cauchy_derivative, circle_points
from hepcli.engine._estimators import ERROR_SIGNALS, ESTIMATORS, estimate
from hepcli.engine._homeostasis import (
    activity_jacobian,
    draw_noise,
    homeostatic_gradient,
    homeostatic_loss,
)
from hepcli.engine._problem import FreePhase, activities, free_phase, parameter_gradient
from hepcli.engine._relax import log10_residual, relax, report
from hepcli.engine._sweep import SOLVERS, make_sweep, update_groups, vector_field
from hepcli.engine._types import (
    Estimate,
    Gradient,
    GradientSettings,
    Params,
    Phase,
    PhaseReport,
    Problem,
    RelaxationSettings,
    State,
    System,
)

__all__ = [
    "ERROR_SIGNALS",
    "ESTIMATORS",
    "SOLVERS",
    "Estimate",
    "FreePhase",
    "Gradient",
    "GradientSettings",
    "Params",
    "Phase",
    "PhaseReport",
    "Problem",
    "RelaxationSettings",
    "State",
    "System",
    "activities",
    "activity_jacobian",
    "cauchy_derivative",
    "circle_points",
    "draw_noise",
    "estimate",
    "free_phase",
    "homeostatic_gradient",
    "homeostatic_loss",
    "log10_residual",
    "make_sweep",
    "parameter_gradient",
    "relax",
    "report",
    "update_groups",
    "vector_field",
]
