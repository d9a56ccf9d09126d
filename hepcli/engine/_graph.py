"""What the graph of layers says about the order of updates."""

Layers = tuple[str, ...]
Edges = tuple[tuple[str, str], ...]


def flow_levels(layers: Layers, edges: Edges) -> tuple[Layers, ...] | None:
    """The layers of a graph without cycles by the longest path that leads to them.

    Updated level after level they are at their fixed point after one pass, whatever they started from; all at
    once, after as many steps as there are levels.

    Args:
        layers: layer names.
        edges: connections between them as (pre, post).

    Returns:
        The levels in the order of the flow; None for a graph with a cycle.
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
