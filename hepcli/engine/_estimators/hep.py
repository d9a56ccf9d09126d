"""`hep`: the Cauchy sum over nudged fixed points."""

from hepcli.engine._estimator import built_in, local_learning
from hepcli.engine._nudges import cauchy_signal, nudged_phases
from hepcli.engine._problem import FreePhase
from hepcli.engine._types import PhaseReport, State


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


HEP = built_in("hep", local_learning(hep), hep, nudged_phases)
