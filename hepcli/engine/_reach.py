"""How far a signal has come from ``out`` after a number of steps, by the graph alone."""

from typing import Any

import numpy as np

from hepcli.engine._dynamics import Dynamics
from hepcli.engine._solver import make_solver
from hepcli.settings import OUTPUT, Edges, Layers, RelaxationSettings


def layers_reached(
    settings: RelaxationSettings,
    layers: Layers,
    edges: Edges,
    ways: Edges,
    steps: int,
    *,
    backwards: bool = False,
) -> frozenset[str]:
    """Run a solver on a signal that starts in ``out`` and goes from layer to layer.

    Args:
        settings: solver and order.
        layers: in the network's own order.
        edges: (pre, post) of the connections between them, from which the solver takes its groups.
        ways: (from, to) of the layers between which the signal goes.
        steps: most steps in the sense of the synchronous dynamics.
        backwards: whether groups are taken against the flow of `edges`, as for adjoints.

    Returns:
        The layers that it comes to.
    """
    sources = {name: [pre for pre, post in ways if post == name] for name in layers}

    def update(state: Any, among: Layers) -> Any:  # NumPy's numbers: no device is asked for this
        return {
            name: np.bool_(name == OUTPUT or any(state[source] for source in sources[name])) for name in among
        }

    dynamics, solver = Dynamics(layers, edges, update, backwards), make_solver(settings)
    state: Any = dict.fromkeys(layers, np.bool_(False))
    for count in range(min(solver.num_passes(dynamics, steps), len(layers))):  # every pass reaches one more
        state = solver.step(dynamics, state, count)
    return frozenset(name for name in layers if state[name])
