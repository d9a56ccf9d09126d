"""What the rest of the tool has to know of the estimators, which are in `engine/_estimators`, without JAX."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from hepcli.settings.parts import ESTIMATORS, Option


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What the rest of the tool has to know of an estimator.

    Attributes:
        limit: the signal that e comes to with many small nudges, or is.
        has_error_vector: whether there is an e at all.
        has_free_phase: whether it starts with a free phase, which may be given a state to start from.
        has_nudged_record: whether there are nudged phases or an adjoint iteration to report.
        signal_flow: how e spreads from layer ``out``, step by step: along the connections, against them, or
            both ways; `at_once` where the number of steps does not matter, or is not known to.
        iterates_adjoint: whether e grows with `gradient.adjoint_steps` where an example has not settled.
        uses_circle: whether |β| is the radius of a circle of nudges.
        subtracts_states: whether e is a difference of states over |β| without being a sum on that circle.
        always_complex: whether states are complex even where the points of the circle are real.
        min_points: fewest points on it.
        largest_radius: most that |β| may be.
        is_contrastive: whether it contrasts energies, which takes connections both ways and a linear drive.
        is_random: whether it draws random numbers of its own, which takes `Problem.key`.
        clamps_output: whether it holds ``out`` near the targets, which takes a network without readout.
        options: name to default of each of its own settings, `gradient.options`.
        learns_locally: whether the gradient is the local rule (METHOD §3, (3.1)) with e at `Estimate.state`,
            where there is an e.
        is_feedforward: whether the network goes without its feedback, in training and wherever it is used.
    """

    limit: Literal["hep_exact", "rbp"] = "hep_exact"
    has_error_vector: bool = True
    has_free_phase: bool = True
    has_nudged_record: bool = True
    signal_flow: Literal["along", "against", "both", "at_once"] = "at_once"
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
    is_random: bool = False
    options: Mapping[str, Option] = field(default_factory=dict)

    @property
    def magnifies_rounding(self) -> bool:
        """Whether the rounding of states is divided by |β|."""
        return self.uses_circle or self.subtracts_states

    def is_complex(self, num_points: int) -> bool:
        """Whether states are complex with as many points, so that activations must be holomorphic."""
        return self.uses_circle and (self.always_complex or num_points > 2)


TRAITS = {
    "hep": Traits(signal_flow="along", uses_circle=True),
    "hep_exact": Traits(signal_flow="along"),
    "online_hep": Traits(
        signal_flow="along", has_free_phase=False, uses_circle=True, always_complex=True, min_points=2
    ),
    "rbp": Traits(limit="rbp", signal_flow="against", iterates_adjoint=True),
    "neumann_rbp": Traits(limit="rbp", signal_flow="against", iterates_adjoint=True),
    "bptt": Traits(signal_flow="against", has_error_vector=False, has_nudged_record=False),
    "asymep": Traits(limit="rbp", signal_flow="both", uses_circle=True),
    "asymep_exact": Traits(limit="rbp", signal_flow="both"),
    "dyadic_ep": Traits(limit="rbp", signal_flow="against", has_free_phase=False),
    "contrastive_ep": Traits(
        signal_flow="along", uses_circle=True, learns_locally=False, is_contrastive=True
    ),
    "contrastive_hebbian": Traits(
        signal_flow="along", learns_locally=False, is_contrastive=True, clamps_output=True
    ),
    "coupled_learning": Traits(
        signal_flow="along",
        subtracts_states=True,
        largest_radius=1.0,
        learns_locally=False,
        is_contrastive=True,
        clamps_output=True,
    ),
    "dual_propagation": Traits(
        limit="rbp", has_free_phase=False, subtracts_states=True, learns_locally=False, is_feedforward=True
    ),
    "predictive_coding": Traits(limit="rbp", has_free_phase=False, learns_locally=False, is_feedforward=True),
    "feedforward": Traits(limit="rbp", has_free_phase=False, has_nudged_record=False, is_feedforward=True),
}
"""Of the estimators that come with hep; one of a user's own brings its traits along."""


def traits_of(method: str) -> Traits:
    """The traits of the estimator that a `gradient.method` names; KeyError where there is none."""
    traits: Traits = ESTIMATORS[method] if ESTIMATORS.is_own(method) else TRAITS[method]
    return traits
