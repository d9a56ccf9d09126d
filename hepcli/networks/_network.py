"""Networks: a directed graph of layers, the activation, the readout and the loss."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Inexact

from hepcli.engine import Gradient, Params, State
from hepcli.networks._kinds import LayerKind
from hepcli.networks._kinds.dense import DenseWeights
from hepcli.networks._linear import apply_real, project
from hepcli.networks._losses import Loss
from hepcli.settings import (
    ACTIVATIONS,
    INPUT,
    LAYER_KINDS,
    LOSSES,
    OUTPUT,
    READOUT,
    DenseLayer,
    LayerSettings,
    NetworkSettings,
    Shape,
)


@dataclass(frozen=True)
class Connection:
    """A connection from one layer, or the input, to another.

    Attributes:
        pre: where it comes from; may be ``in``.
        post: what it drives.
        layer: settings of what it does: of the layer at its upper end.
        below: shape of the units at its lower end.
        above: shape of the units at its upper end.
        is_forward: whether it leads up the order of layers, and so carries a bias.
        strength: factor of what it drives with.
    """

    pre: str
    post: str
    layer: LayerSettings
    below: Shape
    above: Shape
    is_forward: bool
    strength: float = 1.0

    @property
    def name(self) -> str:
        """``pre-post``, the name of its parameters."""
        return f"{self.pre}-{self.post}"

    @property
    def kind(self) -> LayerKind:
        """What it does."""
        kind: LayerKind = LAYER_KINDS[self.layer.kind]
        return kind

    @property
    def multiply_adds(self) -> int:
        """Of driving one example once."""
        return self.layer.multiply_adds(self.below, self.above)

    @property
    def is_top_down(self) -> bool:
        """Whether it leads to a layer from one above it."""
        return self.pre != self.post and not self.is_forward

    def drive(self, params: Params, activity: State) -> Array:
        """What it drives `post` with, without bias, (..., *units); feedback may read `post` itself, too."""
        kernel, kind = params[self.name]["kernel"], self.kind
        if self.is_forward:
            driven = kind.up(self, kernel, activity[self.pre])
        else:
            driven = kind.down(self, kernel, activity[self.post], activity[self.pre])
        return driven if self.strength == 1 else self.strength * driven


@dataclass(frozen=True)
class Network:
    """Layers joined by a directed graph of connections, and a readout of layer ``out`` (METHOD §1, §2).

    Attributes:
        shapes: layer name -> shape of its units, from the input up.
        connections: in the order of the settings.
        num_classes: classes.
        activation_name: key of `ACTIVATIONS`.
        loss_name: key of `LOSSES`.
        readout: whether scores are a linear readout of ``out``; else the activity itself.
    """

    shapes: tuple[tuple[str, Shape], ...]
    connections: tuple[Connection, ...]
    num_classes: int
    activation_name: str
    loss_name: str
    readout: bool

    @cached_property
    def unit_shapes(self) -> dict[str, Shape]:
        """Shape of the units of each layer, from the input up."""
        return dict(self.shapes)

    @property
    def linear_drive(self) -> bool:
        """Whether `recurrent_drive` is linear in the activities."""
        return all(connection.kind.is_linear for connection in self.connections)

    def input_drive(self, params: Params, inputs: Float[Array, "batch ..."]) -> State:
        """Input connections and all biases, per layer (batch, *units) or one for all places."""
        drive: State = {name: jnp.zeros(shape[-1:], inputs.dtype) for name, shape in self.shapes}
        for connection in self.connections:
            weights, post = params[connection.name], connection.post
            if connection.pre == INPUT:
                source = inputs.reshape(inputs.shape[0], *connection.below)
                drive[post] = drive[post] + connection.drive(params, {INPUT: source})
            if "bias" in weights:
                drive[post] = drive[post] + weights["bias"]
        return drive

    def recurrent_drive(self, params: Params, layer: str, activity: State) -> Array:
        """Sum over the connections into `layer` from layers, at least one, without biases, (..., *units)."""
        terms = [
            connection.drive(params, activity)
            for connection in self.connections
            if connection.post == layer and connection.pre != INPUT
        ]
        return sum(terms[1:], start=terms[0])

    @property
    def layers(self) -> tuple[str, ...]:
        """Layer names from the input up."""
        return tuple(self.unit_shapes)

    @property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """Connections between layers as (pre, post)."""
        return tuple((own.pre, own.post) for own in self.connections if own.pre != INPUT)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Feedback connections with a forward partner, as (feedback, forward) parameter names."""
        names = {connection.name for connection in self.connections}
        feedback = [own for own in self.connections if own.is_top_down]
        return tuple(
            (own.name, f"{own.post}-{own.pre}") for own in feedback if f"{own.post}-{own.pre}" in names
        )

    @property
    def without_feedback(self) -> "Network":
        """The same layers with their forward connections alone."""
        return replace(self, connections=tuple(own for own in self.connections if own.is_forward))

    def init(self, key: Array) -> Gradient:
        """Fresh real parameters: connection or ``readout`` -> kernel and bias."""
        plan = {own.name: own.kind.module(own) for own in self.connections}
        if self.readout:
            plan[READOUT] = DenseWeights(self.num_classes, use_bias=True), (self._out_size,)

        def init_all(key: Array) -> Gradient:
            keys = jax.random.split(key, len(plan))
            return {
                name: module.init(subkey, jnp.zeros((1, *shape)))["params"]
                for subkey, (name, (module, shape)) in zip(keys, plan.items(), strict=True)
            }

        params: Gradient = jax.jit(init_all)(key)  # eagerly, Linen's first init takes seconds
        return params

    def zero_state(self, inputs: Float[Array, "batch ..."]) -> State:
        """Zero pre-activations (batch, *units), in the inputs' precision."""
        batch = inputs.shape[0]
        return {name: jnp.zeros((batch, *shape), inputs.dtype) for name, shape in self.shapes}

    def activation(self, state: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """σ, elementwise."""
        activated: Array = ACTIVATIONS[self.activation_name](state)
        return activated

    def output(
        self, params: Params, out_activity: Inexact[Array, "... out"]
    ) -> Inexact[Array, "... classes"]:
        """Class scores: R r_out + c, or r_out itself without readout; r_out flattened."""
        leading = out_activity.shape[: out_activity.ndim - len(self.unit_shapes[OUTPUT])]
        flat = out_activity.reshape(*leading, self._out_size)
        if not self.readout:
            return flat
        weights = params[READOUT]
        scores = apply_real(partial(project, weights["kernel"]), flat)
        return scores + weights["bias"].astype(scores.dtype)

    def loss(
        self, params: Params, out_activity: Float[Array, "... out"], targets: Float[Array, "... classes"]
    ) -> Float[Array, "..."]:
        """Loss per example."""
        return self._loss.value(self.output(params, out_activity), targets)

    def loss_gradient(
        self, params: Params, out_activity: Inexact[Array, "... out"], targets: Float[Array, "... classes"]
    ) -> Inexact[Array, "... out"]:
        """dL/dr_out per example, holomorphic in r_out."""
        by_output = self._loss.derivative(self.output(params, out_activity), targets)
        if self.readout:
            by_output = apply_real(partial(project, params[READOUT]["kernel"].T), by_output)
        return by_output.reshape(out_activity.shape)

    @property
    def _loss(self) -> Loss:
        loss: Loss = LOSSES[self.loss_name]
        return loss

    @property
    def _out_size(self) -> int:
        return math.prod(self.unit_shapes[OUTPUT])


def build_network(settings: NetworkSettings, image: Shape, num_classes: int) -> Network:
    """The network of settings that `NetworkSettings.misfits` finds nothing in.

    Args:
        settings: the [network] table.
        image: shape of an input, (height, width, channels).
        num_classes: classes.
    """
    shapes, order = settings.shapes(image), (INPUT, *settings.layers)
    connections = []
    for name, (pre, post) in zip(settings.connections, settings.connection_pairs, strict=True):
        is_forward = not settings.is_feedback(name)
        lower, upper = (pre, post) if is_forward else (post, pre)
        strength = settings.feedback_strength if settings.is_top_down(name) else 1.0
        own = settings.layers[max(lower, upper, key=order.index)]
        connections.append(Connection(pre, post, own, shapes[lower], shapes[upper], is_forward, strength))
    return Network(
        tuple((name, shapes[name]) for name in settings.layers),
        tuple(connections),
        num_classes,
        settings.activation,
        settings.loss,
        settings.readout,
    )


def dense_network(
    units: Iterable[tuple[str, int]],
    connections: Iterable[tuple[str, str]],
    input_size: int,
    num_classes: int,
    activation_name: str = "sigmoid",
    loss_name: str = "cross_entropy",
    readout: bool = True,
    feedback_strength: float = 1.0,
) -> Network:
    """A network of dense layers without a configuration around it.

    Args:
        units: layer and number of its units, from the input up.
        connections: (pre, post); pre may be ``in``.
        input_size: values of an input.
        num_classes: classes.
        activation_name: key of `ACTIVATIONS`.
        loss_name: key of `LOSSES`.
        readout: whether scores are a linear readout of ``out``.
        feedback_strength: factor of what a layer receives from the layers above it.
    """
    settings = NetworkSettings(
        activation=activation_name,
        loss=loss_name,
        readout=readout,
        feedback_strength=feedback_strength,
        layers={name: DenseLayer(units=size) for name, size in units},
        connections=tuple(f"{pre}-{post}" for pre, post in connections),
    )
    return build_network(settings, (input_size,), num_classes)
