"""Solvers that update groups of layers in turn: `synchronous`, `alternating`, and `anderson` on top."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from jax import Array

from hepcli.engine._dynamics import Dynamics
from hepcli.engine._graph import Edges, Layers, flow_levels
from hepcli.engine._types import State
from hepcli.settings import RelaxationSettings

Groups = tuple[Layers, ...]


@dataclass(frozen=True)
class Grouped:
    """Group after group; noise enters with the update of its layer, and the groups after it see it.

    Attributes:
        order: (layers, edges) -> the groups, in the order of the flow.
        memory: of Anderson mixing; 0 for plain passes.
    """

    order: Callable[[Layers, Edges], Groups]
    memory: int = 0

    def groups(self, dynamics: Dynamics) -> Groups:
        """The groups in the order they are updated."""
        groups = self.order(dynamics.layers, dynamics.edges)
        return groups[::-1] if dynamics.backwards else groups

    def num_passes(self, dynamics: Dynamics, steps: int) -> int:
        """A pass over n groups advances a chain of the synchronous dynamics by n steps."""
        return -(-steps // len(self.groups(dynamics)))

    def step(self, dynamics: Dynamics, state: State, count: int | Array) -> State:
        """Update every layer once."""
        for number, layers in enumerate(self.groups(dynamics)):
            state = dynamics.move(state, layers, count, number)
        return state


def synchronous(relaxation: RelaxationSettings) -> Grouped:
    """All layers at once, from the values of the step before (the paper's dynamics)."""
    return Grouped(lambda layers, edges: (layers,))


def alternating(relaxation: RelaxationSettings) -> Grouped:
    """The cyclic classes of the graph, one after the other; see `cyclic_classes`."""
    return Grouped(cyclic_classes)


def anderson(relaxation: RelaxationSettings) -> Grouped:
    """Alternating passes, and Anderson mixing of the states they come to; see `Anderson`."""
    return Grouped(cyclic_classes, relaxation.anderson_memory)


def cyclic_classes(layers: Layers, edges: Edges) -> Groups:
    """The cyclic classes of a graph, or where it has no cycle its levels.

    In a graph whose cycles all have lengths divisible by p, the layers fall into p classes such that
    every connection leads from a class to the next. The synchronous dynamics then consist of p chains
    that never exchange a value, all with the same fixed points. Updating the classes in turn runs one of
    them: a pass costs what a synchronous step costs and advances its chain by p steps. Layered networks
    with reciprocal connections have p = 2, the loop of three layers p = 3; p = 1 is the synchronous step.

    Args:
        layers: layer names.
        edges: connections between them as (pre, post).

    Returns:
        The classes, in the order of the flow.
    """
    levels = flow_levels(layers, edges)
    if levels is not None:  # one pass reaches the fixed point
        return levels
    depth = _depths(layers, edges)
    period = math.gcd(*(depth[pre] + 1 - depth[post] for pre, post in edges))
    classes = (tuple(name for name in layers if depth[name] % period == c) for c in range(period))
    return tuple(members for members in classes if members)


def _depths(layers: Layers, edges: Edges) -> dict[str, int]:
    """A depth per layer that rises by one along each edge of a spanning forest."""
    depth: dict[str, int] = {}
    for root in layers:
        if root in depth:
            continue
        depth[root], pending = 0, [root]
        while pending:
            name = pending.pop(0)
            ahead = [(post, depth[name] + 1) for pre, post in edges if pre == name]
            behind = [(pre, depth[name] - 1) for pre, post in edges if post == name]
            for neighbour, value in ahead + behind:
                if neighbour not in depth:
                    depth[neighbour] = value
                    pending.append(neighbour)
    return depth
