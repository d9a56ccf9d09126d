"""Solvers that update groups of layers in turn: `synchronous`, `alternating`, and `anderson` on top."""

from dataclasses import dataclass

from jax import Array

from hepcli.engine._dynamics import Dynamics
from hepcli.engine._types import State
from hepcli.settings import CYCLIC, Groups, RelaxationSettings, groups_of


@dataclass(frozen=True)
class Grouped:
    """Group after group; noise enters with the update of its layer, and the groups after it see it.

    Attributes:
        order: of the groups, as in `relaxation.order`; None for all layers at once.
        memory: of Anderson mixing; 0 for plain passes.
    """

    order: str | Groups | None
    memory: int = 0

    def groups(self, dynamics: Dynamics) -> Groups:
        """The groups in the order they are updated."""
        if self.order is None:
            return (dynamics.layers,)
        groups = groups_of(self.order, dynamics.layers, dynamics.edges)
        return groups[::-1] if dynamics.backwards else groups

    def num_passes(self, dynamics: Dynamics, steps: int) -> int:
        """Passes that do the work of `steps` steps of the synchronous dynamics.

        A pass over n cyclic classes advances a chain of them by n steps. In any other order, of two or more
        groups, a pass counts for two: on layered networks it converges like two steps, whatever the order of
        the layers.

        Source: Young (1954), "Iterative methods for solving partial difference equations of elliptic type":
            consistently ordered successive displacements have the squared spectral radius.
        """
        count = len(self.groups(dynamics))
        return -(-steps // (count if self.order == CYCLIC else min(2, count)))

    def step(self, dynamics: Dynamics, state: State, count: int | Array) -> State:
        """Update every layer once."""
        for number, layers in enumerate(self.groups(dynamics)):
            state = dynamics.move(state, layers, count, number)
        return state


def synchronous(relaxation: RelaxationSettings) -> Grouped:
    """All layers at once, from the values of the step before (the paper's dynamics)."""
    return Grouped(None)


def alternating(relaxation: RelaxationSettings) -> Grouped:
    """The groups of `relaxation.order`, one after the other."""
    return Grouped(relaxation.order)


def anderson(relaxation: RelaxationSettings) -> Grouped:
    """Alternating passes, and Anderson mixing of the states they come to; see `Anderson`."""
    return Grouped(relaxation.order, relaxation.anderson_memory)
