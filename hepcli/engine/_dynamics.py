"""What is relaxed: the update of layers from the newest state of all of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from hepcli.engine._types import Params, State, System
from hepcli.settings import Edges, Layers

Update = Callable[[State, Layers], State]
"""State, and layers to update -> what the synchronous step sets those layers to."""


@dataclass(frozen=True)
class Dynamics:
    """A map of states layer by layer, whose fixed point is looked for.

    Attributes:
        layers: names in the network's own order.
        edges: (pre, post): which layers the update of a layer reads, beside itself.
        update: the map.
        backwards: whether groups of layers are taken against the flow of `edges`, as adjoints are.
        noise_std: standard deviation of the noise that every update of a layer receives; of complex noise,
            the root of the mean squared magnitude.
        keys: random keys of the examples (batch,), from which their noise is drawn; needed where there is
            any.
    """

    layers: Layers
    edges: Edges
    update: Update
    backwards: bool = False
    noise_std: float = 0.0
    keys: Array | None = None

    def move(self, state: State, layers: Layers, count: int | Array, number: int) -> State:
        """The state with `layers` updated, and their noise: part `number` of pass `count`.

        Raises:
            ValueError: there is noise but there are no keys.
        """
        updated = self.update(state, layers)
        if self.noise_std:
            if self.keys is None:
                raise ValueError("noise_std is not 0: the dynamics need keys")
            updated |= self._noise(self.keys, {name: updated[name] for name in layers}, count, number)
        return state | updated

    def _noise(self, keys: Array, updated: State, count: int | Array, number: int) -> State:
        """States with noise added, of each example from its own key."""

        def of_one(key: Array, one: State) -> State:
            own = jax.random.fold_in(jax.random.fold_in(key, count), number)
            drawn = zip(jax.random.split(own, len(one)), one.items(), strict=True)
            return {
                name: u + self.noise_std * jax.random.normal(k, u.shape, u.dtype) for k, (name, u) in drawn
            }

        noisy: State = jax.vmap(of_one)(keys, updated)
        return noisy

    def change(self, state: State) -> State:
        """How far the synchronous step without noise moves a state."""
        return {name: new - state[name] for name, new in self.update(state, self.layers).items()}


def drive(system: System, params: Params, layers: Sequence[str], state: State, constant: State) -> State:
    """Total input of `layers` at `state`: what the synchronous step would set them to without a nudge."""
    activity = {name: system.activation(name, u) for name, u in state.items()}  # compiled away where not read
    return drive_at(system, params, layers, activity, constant)


def drive_at(
    system: System, params: Params, layers: Sequence[str], activity: State, constant: State
) -> State:
    """Total input of `layers` where all have this activity. Source: METHOD §1."""
    driven = {post for _, post in system.edges}
    total = {}
    for name in layers:
        own = activity[name]
        total[name] = jnp.broadcast_to(constant[name].astype(own.dtype), own.shape)
        if name in driven:
            total[name] = system.recurrent_drive(params, name, activity) + total[name]
    return total


def network_update(
    system: System,
    params: Params,
    constant: State,
    beta: Array | None = None,
    targets: Array | None = None,
) -> Update:
    """u + F(u; β) of some layers.

    Args:
        system: the network.
        params: its parameters, real.
        constant: `System.input_drive`, broadcast over the states' leading axes.
        beta: the nudge, real or complex, broadcastable against (..., batch, *units of out); None leaves
            it out.
        targets: targets (..., batch, classes), needed with `beta`.

    Source: Laborieux & Zenke (2024), Eq. 1 (METHOD §1).
    """

    def update(state: State, layers: Layers) -> State:
        updated = drive(system, params, layers, state, constant)
        if beta is not None and "out" in layers:
            out_activity = system.activation("out", state["out"])
            nudge = system.loss_gradient(params, out_activity, targets)  # type: ignore[arg-type]
            updated["out"] = updated["out"] + beta * nudge
        return updated

    return update


def vector_field(
    system: System,
    params: Params,
    constant: State,
    state: State,
    beta: Array | None = None,
    targets: Array | None = None,
) -> State:
    """F(u; β) per layer (…, batch, *units), real or complex like the state. Source: METHOD §1."""
    update = network_update(system, params, constant, beta, targets)
    return {name: new - state[name] for name, new in update(state, tuple(system.layers)).items()}
