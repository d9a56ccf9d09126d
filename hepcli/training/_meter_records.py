"""What the asymmetry meter is told, and what it returns."""

from typing import NamedTuple

from jax import Array

from hepcli.engine import CircleScan, Comparison, Gradient, ReferenceSettings, SignalSums
from hepcli.settings import GradientSettings, RelaxationSettings

BIASES = ("finite_nudge", "asymmetry", "total")
DENSE_UNITS = 2000  # up to here J is built as a matrix: 32 MB
_DRAWS = 64


class MeterSettings(NamedTuple):
    """What is measured, and against what.

    Attributes:
        relaxation: the run's own phases.
        gradient: the run's own estimator.
        reference: how far the references are converged.
        dense_units: most units for which J is built; above, its parts are estimated.
        num_draws: draws of those estimates.
    """

    relaxation: RelaxationSettings
    gradient: GradientSettings
    reference: ReferenceSettings = ReferenceSettings()
    dense_units: int = DENSE_UNITS
    num_draws: int = _DRAWS


class Sample(NamedTuple):
    """Measures of a batch, per example (batch,), and gradients summed over the examples that count.

    Attributes:
        values: key of `MEASURES` -> value.
        own_settled: whether the run's own free phase settled.
        sums: the run's own error signals at its end, summed; None where there are none.
        settled: a free fixed point was reached by going on; one of unsettled examples may be another than
            the run's own steps would have come to.
        solved: so were both linear solves at it.
        finite: the run's own error signal there is; True where there is none.
        fixed_point_residual: ‖F(u*)‖ there.
        hep_exact_residual: of the solve, relative to its solution.
        rbp_residual: likewise.
        spectral_residual: of the leading eigenvalue of a step, absolute.
        biases: `BIASES` -> comparison; None where the method has no error vector.
        own_gradient: of the run's own signal.
        bptt_gradient: by bptt.
    """

    values: dict[str, Array]
    own_settled: Array
    sums: SignalSums | None
    settled: Array
    solved: Array
    finite: Array
    fixed_point_residual: Array
    hep_exact_residual: Array
    rbp_residual: Array
    spectral_residual: Array
    biases: dict[str, Comparison | None]
    own_gradient: Gradient | None
    bptt_gradient: Gradient


class Pictures(NamedTuple):
    """What the figures show.

    Attributes:
        kept: examples with a fixed point and solved references (batch,).
        residual_map: ‖F(u; β)‖ after the run's own nudged phase (points, batch); None without complex nudges.
        circles: error of the Cauchy sum after `PICTURE_STEPS` nudged steps, and its residuals; likewise.
        jacobian: J of the first kept example in activity coordinates (units, units); None where it is too
            large.
        one_step: the Jacobian of the one-step map at its u*; likewise.
    """

    kept: Array
    residual_map: Array | None
    circles: CircleScan | None
    jacobian: Array | None
    one_step: Array | None
