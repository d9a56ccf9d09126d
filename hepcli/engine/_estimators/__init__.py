"""The error signals by name: a new one is one file here and one line below."""

from collections.abc import Callable

from jax import Array

from hepcli.engine._estimators.asymep import asymep, asymep_exact, corrected_phases
from hepcli.engine._estimators.bptt import bptt
from hepcli.engine._estimators.dyadic_ep import dyadic_ep
from hepcli.engine._estimators.hep import hep, nudged_phases
from hepcli.engine._estimators.hep_exact import hep_exact
from hepcli.engine._estimators.online_hep import online_hep
from hepcli.engine._estimators.rbp import neumann_rbp, rbp
from hepcli.engine._problem import FreePhase, free_phase, learn_locally
from hepcli.engine._relax import report
from hepcli.engine._types import Estimate, Phase, PhaseReport, Problem, State

ErrorSignal = Callable[[FreePhase], tuple[State, PhaseReport]]
Estimator = Callable[[Problem], Estimate]

ERROR_SIGNALS: dict[str, ErrorSignal] = {
    "hep": hep,
    "hep_exact": hep_exact,
    "rbp": rbp,
    "neumann_rbp": neumann_rbp,
    "asymep": asymep,
    "asymep_exact": asymep_exact,
}
"""Error vectors read at the free fixed point, by name."""

NUDGED_PHASES: dict[str, Callable[[FreePhase], Callable[[Array], Phase]]] = {
    "hep": nudged_phases,
    "asymep": corrected_phases,
}
"""Nudged phases of the error signals that sum over a circle, by name."""


def local_learning(error_signal: ErrorSignal) -> Estimator:
    """The estimator that runs a free phase, reads `error_signal` and applies the local learning rule.

    Rule and signal take the state the free phase ends with, whether it has settled or not.
    """

    def estimator(problem: Problem) -> Estimate:
        free = free_phase(problem)
        error_vector, nudged = error_signal(free)
        return learn_locally(problem, free.phase.state, error_vector, report(free.phase), nudged)

    return estimator


ESTIMATORS: dict[str, Estimator] = {
    **{name: local_learning(signal) for name, signal in ERROR_SIGNALS.items()},
    "online_hep": online_hep,
    "dyadic_ep": dyadic_ep,
    "bptt": bptt,
}
"""Gradient estimators by `gradient.method`."""


def estimate(problem: Problem) -> Estimate:
    """The learning signal of a batch by the method its settings name.

    Args:
        problem: network, parameters, batch and settings.

    Returns:
        State, error vector, gradient and records of the phases.

    Raises:
        KeyError: the method is not in `ESTIMATORS`.
    """
    return ESTIMATORS[problem.gradient.method](problem)
