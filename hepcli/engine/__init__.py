"""The numerical core: relaxation, error signals, gradients, homeostasis. Pure JAX, no I/O."""

from hepcli.engine._asymmetry import (
    JacobianParts,
    activity_jacobian_matrix,
    estimated_parts,
    exact_parts,
    jacobian_symmetry,
    leading_eigenvalues,
    num_units,
    per_example,
    step_matrix,
    step_product,
)
from hepcli.engine._bias import (
    CircleScan,
    Comparison,
    References,
    ReferenceSettings,
    compare,
    gradient_sums,
    nudged_residuals,
    own_signal,
    own_sums,
    references,
    scan_circles,
)
from hepcli.engine._cauchy import cauchy_derivative, circle_points
from hepcli.engine._dynamics import Dynamics, network_update, vector_field
from hepcli.engine._estimator import Estimator, estimate, estimator_of, local_learning
from hepcli.engine._estimators.hep import nudged_phases
from hepcli.engine._graph import flow_levels
from hepcli.engine._homeostasis import (
    activity_jacobian,
    draw_noise,
    homeostatic_gradient,
    homeostatic_loss,
)
from hepcli.engine._norms import example_norm
from hepcli.engine._problem import FreePhase, activities, free_phase, signal_sums, summed_gradient
from hepcli.engine._relax import log10_residual, relax, report
from hepcli.engine._solver import Solver, make_solver
from hepcli.engine._types import (
    Estimate,
    Gradient,
    Params,
    Phase,
    PhaseReport,
    Problem,
    SignalSums,
    State,
    System,
    mean_gradient,
)

__all__ = [
    "CircleScan",
    "Comparison",
    "Dynamics",
    "Estimate",
    "Estimator",
    "FreePhase",
    "Gradient",
    "JacobianParts",
    "Params",
    "Phase",
    "PhaseReport",
    "Problem",
    "ReferenceSettings",
    "References",
    "SignalSums",
    "Solver",
    "State",
    "System",
    "activities",
    "activity_jacobian",
    "activity_jacobian_matrix",
    "cauchy_derivative",
    "circle_points",
    "compare",
    "draw_noise",
    "estimate",
    "estimated_parts",
    "estimator_of",
    "exact_parts",
    "example_norm",
    "flow_levels",
    "free_phase",
    "gradient_sums",
    "homeostatic_gradient",
    "homeostatic_loss",
    "jacobian_symmetry",
    "leading_eigenvalues",
    "local_learning",
    "log10_residual",
    "make_solver",
    "mean_gradient",
    "network_update",
    "nudged_phases",
    "nudged_residuals",
    "num_units",
    "own_signal",
    "own_sums",
    "per_example",
    "references",
    "relax",
    "report",
    "scan_circles",
    "signal_sums",
    "step_matrix",
    "step_product",
    "summed_gradient",
    "vector_field",
]
