"""Networks: a directed graph of layers, the activation, the readout and the loss."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Inexact

from hepcli.engine import Gradient, Params, State
from hepcli.networks._activations import make_activation
from hepcli.networks._connection import Connection
from hepcli.networks._feedback import weight_angle_deg
from hepcli.networks._kinds.dense import DenseWeights
from hepcli.networks._linear import apply_real, project
from hepcli.networks._losses import Loss
from hepcli.networks._own_parts import derives_holomorphically, drives_holomorphically
from hepcli.settings import (
    INPUT,
    LAYER_KINDS,
    LOSSES,
    OUTPUT,
    READOUT,
    NetworkSettings,
    Shape,
    is_holomorphic,
)


@dataclass(frozen=True)
class Network:
    """Layers joined by a directed graph of connections, and a readout of layer ``out`` (METHOD §1, §2).

    Attributes:
        shapes: layer name -> shape of its units, from the input up.
        connections: in the order of the settings.
        num_classes: classes.
        activations: layer name -> name of its activation.
        loss_name: key of `LOSSES`.
        readout: whether scores are a linear readout of ``out``; else the activity itself.
    """

    shapes: tuple[tuple[str, Shape], ...]
    connections: tuple[Connection, ...]
    num_classes: int
    activations: tuple[tuple[str, str], ...]
    loss_name: str
    readout: bool

    @cached_property
    def unit_shapes(self) -> dict[str, Shape]:
        """Shape of the units of each layer, from the input up."""
        return dict(self.shapes)

    @property
    def linear_drive(self) -> bool:
        """Whether `recurrent_drive` is linear in the activities."""
        return all(own.kind.is_linear(own) for own in self.connections if own.pre != INPUT)

    def input_drive(self, params: Params, inputs: Float[Array, "batch ..."]) -> State:
        """Input connections and all biases, per layer (batch, *units) or one for all places."""
        drive: State = {name: jnp.zeros(shape[-1:], inputs.dtype) for name, shape in self.shapes}
        for connection in self.connections:
            post = connection.post
            if connection.pre == INPUT:
                source = inputs.reshape(inputs.shape[0], *connection.below)
                drive[post] = drive[post] + connection.drive(params, {INPUT: source})
            if connection.has_bias:
                bias = params[connection.name]["bias"]
                shape = self.unit_shapes[post]
                drive[post] = drive[post] + (bias.reshape(shape) if bias.size == math.prod(shape) else bias)
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
        """Feedback connections with a forward partner of the same shape, as (feedback, forward) names."""
        return tuple((own.name, own.partner) for own in self.connections if own.partner is not None)

    @property
    def untied_pairs(self) -> tuple[tuple[str, str], ...]:
        """Those whose feedback has a kernel of its own."""
        tied = {own.name for own in self.connections if own.is_tied}
        return tuple(pair for pair in self.pairs if pair[0] not in tied)

    def weight_angles_deg(self, params: Params) -> Mapping[str, Array]:
        """Angle between feedback kernels and their forward partners; see `weight_angle_deg`."""
        return self._weight_angles_deg(params)

    @cached_property
    def _weight_angles_deg(self) -> Callable[[Params], Mapping[str, Array]]:
        tied = [forward for feedback, forward in self.pairs if (feedback, forward) not in self.untied_pairs]
        return jax.jit(partial(weight_angle_deg, pairs=self.untied_pairs, tied=tied))

    @property
    def without_feedback(self) -> "Network":
        """The same layers with their forward connections alone."""
        return replace(self, connections=tuple(own for own in self.connections if own.is_forward))

    def init(self, key: Array) -> Gradient:
        """Fresh real parameters: connection or ``readout`` -> kernel and bias."""
        return self._init(key)

    @cached_property
    def _init(self) -> Callable[[Array], Gradient]:
        """Compiled: eagerly, Linen's first init takes seconds."""
        plan = {own.name: own.kind.module(own) for own in self.connections if not own.is_tied}
        if self.readout:
            plan[READOUT] = DenseWeights(self.num_classes, use_bias=True), (self._out_size,)

        def init_all(key: Array) -> Gradient:
            keys = jax.random.split(key, len(plan))
            return {
                name: module.init(subkey, jnp.zeros((1, *shape)))["params"]
                for subkey, (name, (module, shape)) in zip(keys, plan.items(), strict=True)
            }

        return jax.jit(init_all)

    def zero_state(self, inputs: Float[Array, "batch ..."]) -> State:
        """Zero pre-activations (batch, *units), in the inputs' precision."""
        batch = inputs.shape[0]
        return {name: jnp.zeros((batch, *shape), inputs.dtype) for name, shape in self.shapes}

    @cached_property
    def real_only(self) -> tuple[str, ...]:
        """Its activations, and own kinds of layers and loss, that do not continue to complex states."""
        activations = sorted({name for _, name in self.activations if not is_holomorphic(name)})
        kinds = sorted({own.layer.kind for own in self.of_own_kind if not drives_holomorphically(own)})
        is_real_loss = self.own_loss and not derives_holomorphically(self.own_loss, self.num_classes)
        return (*activations, *kinds, *([self.loss_name] if is_real_loss else []))

    @property
    def own_loss(self) -> Loss | None:
        """The loss, where it is a user's own."""
        return self._loss if LOSSES.is_own(self.loss_name) else None

    @property
    def of_own_kind(self) -> tuple[Connection, ...]:
        """The connections that a user's own code describes."""
        return tuple(own for own in self.connections if LAYER_KINDS.is_own(own.layer.kind))

    def activation(self, layer: str, state: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """σ of a layer, elementwise."""
        return make_activation(dict(self.activations)[layer])(state)

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
    shapes, graph = settings.shapes(image), settings.graph
    connections = []
    for name, (pre, post) in zip(settings.connections, settings.connection_pairs, strict=True):
        is_forward = not settings.is_feedback(name)
        lower, upper = graph.low_and_high(name)
        connections.append(
            Connection(
                pre,
                post,
                graph.layer(name, math.prod(shapes[upper])),
                shapes[lower],
                shapes[upper],
                is_forward,
                strength=settings.strength(name),
                has_bias=is_forward and graph.kernel(name).get("bias", True),
                partner=settings.partner(name),
                is_tied=settings.is_tied(name),
            )
        )
    return Network(
        tuple((name, shapes[name]) for name in settings.layers),
        tuple(connections),
        num_classes,
        tuple(settings.activations.items()),
        settings.loss,
        settings.readout,
    )
