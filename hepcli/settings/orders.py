"""Orders of update: from a graph to groups of layers, updated one after the other."""

import math
from collections.abc import Callable
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from hepcli.settings.faults import did_you_mean

Layers = tuple[str, ...]
Edges = tuple[tuple[str, str], ...]
Groups = tuple[Layers, ...]


def flow_levels(layers: Layers, edges: Edges) -> tuple[Layers, ...] | None:
    """The layers of a graph without cycles by the longest path that leads to them.

    Updated level after level they are at their fixed point after one pass, whatever they started from; all at
    once, after as many steps as there are levels.

    Args:
        layers: layer names.
        edges: connections between them as (pre, post).

    Returns:
        The levels in the order of the flow; None for a graph with a cycle.

    Source: METHOD §7.
    """
    levels: list[Layers] = []
    left = layers
    while left:
        driven = {post for pre, post in edges if pre in left}
        level = tuple(name for name in left if name not in driven)
        if not level:
            return None
        levels.append(level)
        left = tuple(name for name in left if name in driven)
    return tuple(levels)


def cyclic_classes(layers: Layers, edges: Edges) -> Groups:
    """The cyclic classes of a graph, or where it has no cycle its levels.

    In a graph whose cycles all have lengths divisible by p, where a connection passed backwards counts −1,
    the layers fall into p classes such that every connection leads from a class to the next. The synchronous
    dynamics then consist of p chains that never exchange a value, all with the same fixed points. Updating
    the classes in turn runs one of them: a pass costs what a synchronous step costs and advances its chain by
    p steps. Layered networks with reciprocal connections have p = 2, the loop of three layers p = 3; p = 1 is
    the synchronous step.

    Args:
        layers: layer names.
        edges: connections between them as (pre, post).

    Returns:
        The classes, in the order of the flow.

    Source: METHOD §7.
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


def even_odd(layers: Layers, edges: Edges) -> Groups:
    """The first, third, … layer together, then the others."""
    return tuple(group for group in (layers[::2], layers[1::2]) if group)


def sequential(layers: Layers, edges: Edges) -> Groups:
    """Layer by layer, from the input up."""
    return tuple((name,) for name in layers)


CYCLIC = "cyclic"
ORDERS: dict[str, Callable[[Layers, Edges], Groups]] = {
    CYCLIC: cyclic_classes,
    "even_odd": even_odd,
    "sequential": sequential,
}
"""Orders by name."""


def _checked(order: object) -> object:
    """The rule of `relaxation.order`, in one message for both of its types."""
    is_groups = isinstance(order, list | tuple) and bool(order) and all(map(_is_group, order))
    if not is_groups and (not isinstance(order, str) or order not in ORDERS):
        hint = did_you_mean(order, ORDERS) if isinstance(order, str) else ""
        names = ", ".join(ORDERS)
        rule = f'must be one of {names}, or groups of layers such as [["l1", "out"], ["l2"]]{hint}'
        raise PydanticCustomError("order", "{rule}", {"rule": rule})
    return order if isinstance(order, str) else tuple(tuple(group) for group in order)  # type: ignore[attr-defined]


def _is_group(group: object) -> bool:
    return isinstance(group, list | tuple) and bool(group) and all(isinstance(name, str) for name in group)


OrderName = Annotated[str | Groups, BeforeValidator(_checked)]
"""A key of `ORDERS`, or the groups themselves."""


def groups_of(order: str | Groups, layers: Layers, edges: Edges) -> Groups:
    """The groups of an order.

    Args:
        order: key of `ORDERS`, or the groups themselves.
        layers: layer names, from the input up.
        edges: connections between them as (pre, post).
    """
    return ORDERS[order](layers, edges) if isinstance(order, str) else order
