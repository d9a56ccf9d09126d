"""What an estimator of the learning signal is, and running the one that settings name."""

from collections.abc import Callable
from dataclasses import dataclass

from jax import Array

from hepcli.engine._problem import FreePhase, free_phase, learn_locally
from hepcli.engine._relax import in_float32, report
from hepcli.engine._types import Estimate, Phase, PhaseReport, Problem, State
from hepcli.settings import ESTIMATORS, TRAITS, GradientSettings, RelaxationSettings, Traits, traits_of

ErrorSignal = Callable[[FreePhase], tuple[State, PhaseReport | None]]
"""The end of a free phase -> e per layer (batch, *units), real, and the record of its phases, or None."""


@dataclass(frozen=True)
class Estimator(Traits):
    """A way to compute the learning signal, with its `Traits`.

    To add one: one file in `engine/_estimators` with a value of this type, one line in
    `hepcli/settings/parts.py`, and its traits in `hepcli/settings/estimators.py`.

    Attributes:
        estimate: the signal of a batch, whether its examples settle or not.
        error_signal: e at the end of a free phase, for estimators that read it there; None for others.
        nudged_phases: the phases whose Cauchy sum e is, or comes to with many of them, as a function of their
            nudges (points,); None where there is no such sum.
    """

    estimate: Callable[[Problem], Estimate]
    error_signal: ErrorSignal | None = None
    nudged_phases: Callable[[FreePhase], Callable[[Array], Phase]] | None = None


def built_in(
    method: str,
    estimate: Callable[[Problem], Estimate],
    error_signal: ErrorSignal | None = None,
    nudged_phases: Callable[[FreePhase], Callable[[Array], Phase]] | None = None,
) -> Estimator:
    """The estimator of a method that comes with hep, with the traits that settings give it."""
    return Estimator(estimate, error_signal, nudged_phases, **vars(TRAITS[method]))


def local_learning(error_signal: ErrorSignal) -> Callable[[Problem], Estimate]:
    """The estimate that runs a free phase, reads `error_signal` and applies the local learning rule.

    Rule and signal take the state the free phase ends with, whether it has settled or not. What a difference
    over |β| is made of has products in float32: the nudged phases, and with one point the free phase.
    """

    def estimate(problem: Problem) -> Estimate:
        settings = problem.signal_settings
        traits = traits_of(settings.method)
        is_one_sided = traits.uses_circle and settings.num_points == 1
        free = (in_float32(free_phase) if is_one_sided else free_phase)(problem)
        error_vector, nudged = (in_float32(error_signal) if traits.magnifies_rounding else error_signal)(free)
        return learn_locally(problem, free.phase.state, error_vector, report(free.phase), nudged)

    return estimate


def estimator_of(method: str) -> Estimator:
    """The estimator of a `gradient.method`; KeyError where there is none."""
    estimator: Estimator = ESTIMATORS[method]
    return estimator


def draws_random_numbers(relaxation: RelaxationSettings, gradient: GradientSettings) -> bool:
    """Whether an estimate takes `Problem.key`: for noise, a random sign, or what its method draws.

    Raises:
        KeyError: there is no such method.
    """
    is_random = traits_of(gradient.method).is_random
    return is_random or relaxation.noise_std > 0 or gradient.beta_sign == "random"


def estimate(problem: Problem) -> Estimate:
    """The learning signal of a batch by the method its settings name.

    Args:
        problem: network, parameters, batch and settings.

    Returns:
        State, error vector, gradient and records of the phases.

    Raises:
        KeyError: there is no such method.
        ValueError: the problem has no gradient settings; it has no key although noise, a random sign or the
            method needs one; nudges are complex and an activation takes real states only; or the method does
            not suit the network: feedforward ones take no cycles, contrastive ones a
            linear drive.
    """
    return estimator_of(problem.signal_settings.method).estimate(problem)
