"""What an estimator of the learning signal is, and running the one that settings name."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jax import Array

from hepcli.engine._problem import FreePhase, free_phase, learn_locally
from hepcli.engine._relax import report
from hepcli.engine._types import Estimate, Phase, PhaseReport, Problem, State
from hepcli.settings import ESTIMATORS

ErrorSignal = Callable[[FreePhase], tuple[State, PhaseReport | None]]


@dataclass(frozen=True)
class Estimator:
    """A way to compute the learning signal, with what the rest of the tool has to know of it.

    To add one: one file in `engine/_estimators` with a value of this type, and one line in
    `hepcli/settings/parts.py`.

    Attributes:
        estimate: the signal of a batch, whether its examples settle or not.
        error_signal: e at the end of a free phase, for estimators that read it there; None for others.
        nudged_phases: the phases whose Cauchy sum e is, or comes to with many of them, as a function of their
            nudges (points,); None where there is no such sum.
        limit: the signal that e comes to with many small nudges, or is.
        has_error_vector: whether there is an e at all.
        has_free_phase: whether it starts with a free phase, which may be given a state to start from.
        has_nudged_record: whether there are nudged phases or an adjoint iteration to report.
        iterates_adjoint: whether e grows with `gradient.adjoint_steps` where an example has not settled.
        uses_circle: whether |β| is the radius of a circle of nudges.
        subtracts_states: whether e is a difference of states over |β| without being a sum on that circle.
        always_complex: whether states are complex even where the points of the circle are real.
        min_points: fewest points on it.
        largest_radius: most that |β| may be.
        is_contrastive: whether it contrasts energies, which takes connections both ways and a linear drive.
        clamps_output: whether it holds ``out`` near the targets, which takes a network without readout.
        learns_locally: whether the gradient is the local rule (METHOD 3.1) with e at `Estimate.state`, where
            there is an e.
        is_feedforward: whether the network goes without its feedback, in training and wherever it is used.
    """

    estimate: Callable[[Problem], Estimate]
    error_signal: ErrorSignal | None = None
    nudged_phases: Callable[[FreePhase], Callable[[Array], Phase]] | None = None
    limit: Literal["hep_exact", "rbp"] = "hep_exact"
    has_error_vector: bool = True
    has_free_phase: bool = True
    has_nudged_record: bool = True
    iterates_adjoint: bool = False
    uses_circle: bool = False
    subtracts_states: bool = False
    always_complex: bool = False
    min_points: int = 1
    largest_radius: float = math.inf
    learns_locally: bool = True
    is_feedforward: bool = False
    is_contrastive: bool = False
    clamps_output: bool = False

    @property
    def magnifies_rounding(self) -> bool:
        """Whether the rounding of states is divided by |β|."""
        return self.uses_circle or self.subtracts_states

    def is_complex(self, num_points: int) -> bool:
        """Whether states are complex with as many points, so that activations must be holomorphic."""
        return self.uses_circle and (self.always_complex or num_points > 2)


def local_learning(error_signal: ErrorSignal) -> Callable[[Problem], Estimate]:
    """The estimate that runs a free phase, reads `error_signal` and applies the local learning rule.

    Rule and signal take the state the free phase ends with, whether it has settled or not.
    """

    def estimate(problem: Problem) -> Estimate:
        free = free_phase(problem)
        error_vector, nudged = error_signal(free)
        return learn_locally(problem, free.phase.state, error_vector, report(free.phase), nudged)

    return estimate


def estimator_of(method: str) -> Estimator:
    """The estimator of a `gradient.method`; KeyError where there is none."""
    estimator: Estimator = ESTIMATORS[method]
    return estimator


def estimate(problem: Problem) -> Estimate:
    """The learning signal of a batch by the method its settings name.

    Args:
        problem: network, parameters, batch and settings.

    Returns:
        State, error vector, gradient and records of the phases.

    Raises:
        KeyError: there is no such method.
        ValueError: the problem has no gradient settings, or no key although noise or a random sign needs
            one; or the method does not suit the network: feedforward ones take no cycles, contrastive ones a
            linear drive.
    """
    return estimator_of(problem.signal_settings.method).estimate(problem)
