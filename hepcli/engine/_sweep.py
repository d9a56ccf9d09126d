"""Solvers: in which order the layers are updated within a step of the relaxation."""

import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import Array

from hepcli.engine._types import Params, State, Sweep, System

Groups = tuple[tuple[str, ...], ...]


def synchronous_groups(layers: Sequence[str], edges: Sequence[tuple[str, str]]) -> Groups:
    """All layers at once, from the values of the step before (the paper's dynamics)."""
    return (tuple(layers),)


def alternating_groups(layers: Sequence[str], edges: Sequence[tuple[str, str]]) -> Groups:
    """The cyclic classes of the graph, one after the other.

    In a graph whose cycles all have lengths divisible by p, the layers fall into p classes such that
    every connection leads from a class to the next. The synchronous dynamics then consist of p chains
    that never exchange a value, all with the same fixed points. Updating the classes in turn runs one of
    them: a sweep costs what a synchronous step costs and advances its chain by p steps. Layered networks
    with reciprocal connections have p = 2, the loop of three layers p = 3; p = 1 is the synchronous step.

    Args:
        layers: layer names.
        edges: connections between them as (pre, post).

    Returns:
        The classes, in the order of the flow.
    """
    depth = _depths(layers, edges)
    period = math.gcd(*(depth[pre] + 1 - depth[post] for pre, post in edges)) if edges else 0
    if period == 0:  # no cycle: every layer has its depth, and one sweep reaches the fixed point
        lowest = min(depth.values())
        depth = {name: value - lowest for name, value in depth.items()}
        period = max(depth.values()) + 1
    classes = (tuple(name for name in layers if depth[name] % period == c) for c in range(period))
    return tuple(members for members in classes if members)


def _depths(layers: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
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


SOLVERS: dict[str, Callable[[Sequence[str], Sequence[tuple[str, str]]], Groups]] = {
    "synchronous": synchronous_groups,
    "alternating": alternating_groups,
}


def update_groups(system: System, solver: str) -> Groups:
    """The groups of layers that `solver` updates one after the other in `system`."""
    return SOLVERS[solver](system.layers, system.edges)


def num_sweeps(num_groups: int, steps: int) -> int:
    """Sweeps over `num_groups` groups that advance a chain by at least `steps` synchronous steps."""
    return -(-steps // num_groups)


def drive(
    system: System, params: Params, layers: Sequence[str], state: State, constant: State
) -> dict[str, Array]:
    """Total input of `layers` at `state`: what the synchronous step would set them to without a nudge."""
    activity = {name: system.activation(u) for name, u in state.items()}  # compiled away where not read
    driven = {post for _, post in system.edges}
    total = {}
    for name in layers:
        total[name] = jnp.broadcast_to(constant[name].astype(state[name].dtype), state[name].shape)
        if name in driven:
            total[name] = system.recurrent_drive(params, name, activity) + total[name]
    return total


def make_sweep(
    system: System,
    params: Params,
    groups: Groups,
    constant: State,
    beta: Array | None = None,
    targets: Array | None = None,
) -> Sweep:
    """One update of every layer, group after group, each from the newest values.

    Args:
        system: the network.
        params: its parameters, real.
        groups: layers updated together, from `update_groups`.
        constant: `System.input_drive`, broadcast over the states' leading axes.
        beta: the nudge, real or complex, broadcastable against (..., batch, *units of out); None leaves
            it out.
        targets: targets (..., batch, classes), needed with `beta`.

    Returns:
        A function from state to state.
    """

    def sweep(state: State) -> State:
        state = dict(state)
        for layers in groups:
            updated = drive(system, params, layers, state, constant)
            if beta is not None and "out" in layers:
                out_activity = system.activation(state["out"])
                nudge = system.loss_gradient(params, out_activity, targets)  # type: ignore[arg-type]
                updated["out"] = updated["out"] + beta * nudge
            state.update(updated)
        return state

    return sweep


def vector_field(
    system: System,
    params: Params,
    constant: State,
    state: State,
    beta: Array | None = None,
    targets: Array | None = None,
) -> State:
    """F(u; β) per layer, real or complex like the state. Source: paper, Eq. 1 (METHOD §1)."""
    step = make_sweep(system, params, (system.layers,), constant, beta, targets)
    return {name: new - state[name] for name, new in step(state).items()}
