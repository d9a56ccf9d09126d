"""The [network] table: layers, the connections between them, and the checks on their graph."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from hepcli.settings._graph import (
    INPUT,
    OUTPUT,
    Graph,
    connection_faults,
    ends,
    image_faults,
    kernel_faults,
    layer_faults,
    path_faults,
    tied_faults,
)
from hepcli.settings._limits import STRICT, NonNegativeFloat, name_of
from hepcli.settings.activations import SAME, ActivationName
from hepcli.settings.faults import Fault, Faults, assigned, did_you_mean
from hepcli.settings.layers import KernelSettings, LayerSettings, Shape
from hepcli.settings.parts import LOSSES

LossName = Annotated[str, name_of(LOSSES)]


def _check_tied(tied: object) -> object:
    """The rule of `network.tied`, in one message for both of its types."""
    names = isinstance(tied, list | tuple) and all(isinstance(name, str) for name in tied)
    if not names and not isinstance(tied, bool):
        raise PydanticCustomError("tied", 'must be true, false or a list, written like ["l2-l1"]')
    return tied if isinstance(tied, bool) else tuple(tied)  # type: ignore[arg-type]


Tied = Annotated[bool | tuple[str, ...], BeforeValidator(_check_tied)]


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The directed graph of layers. Its order of `layers` tells forward from feedback.

    Attributes:
        activation: what turns the state of a unit into its activity; a layer may have its own.
        loss: what the network is trained on; `squared_error` may go without a readout.
        readout: whether a linear readout of layer `out` gives the class scores.
        initial_angle_deg: angle in degrees that mixes each feedback kernel with its forward
            partner at the start: 0 symmetric, 90 independent.
        feedback_strength: factor of what a layer receives from the layers above it; 0 leaves it out.
        tied: feedback connections that use the kernel of their forward partner, transposed where it is dense,
            and teach it too; true ties all of them.
        layers: name to layer, from the input side to `out`.
        kernels: connection to what it does otherwise than its upper layer says; feedback does as its forward
            partner.
        connections: `pre-post` names; `in` is the input.
        feedback_strength_multipliers: connection from a layer above to a factor of its feedback strength.
    """

    __pydantic_config__ = STRICT

    activation: ActivationName
    loss: LossName = "cross_entropy"
    readout: bool = True
    initial_angle_deg: Annotated[float, Field(ge=0.0, le=90.0)] = 0.0
    feedback_strength: NonNegativeFloat = 1.0
    tied: Tied = False
    layers: Mapping[str, LayerSettings]
    kernels: Mapping[str, KernelSettings] = field(default_factory=dict)
    connections: tuple[str, ...]
    feedback_strength_multipliers: Mapping[str, NonNegativeFloat] = field(default_factory=dict)

    # Field validators, not one for the whole table: they run although another key is wrong,
    # so that a user sees every error at once.

    @field_validator("readout")
    @classmethod
    def _check_readout(cls, readout: bool, info: ValidationInfo) -> bool:
        if not readout and info.data.get("loss") == "cross_entropy":
            message = 'must be true with network.loss = "cross_entropy"; only "squared_error" works without'
            raise Faults([Fault(assigned("network.readout", readout), message)])
        return readout

    @field_validator("layers")
    @classmethod
    def _check_layers(cls, layers: Mapping[str, LayerSettings]) -> Mapping[str, LayerSettings]:
        if faults := layer_faults(layers):
            raise Faults(faults)
        return layers

    @field_validator("connections")
    @classmethod
    def _check_connections(cls, connections: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        layers, kernels = info.data.get("layers"), info.data.get("kernels")  # absent where they are wrong
        faults = connection_faults(connections, None if layers is None else tuple(layers))
        if not faults and layers is not None:
            graph = Graph(layers, connections, {} if kernels is None else kernels)
            faults = path_faults(graph) or kernel_faults(graph) or image_faults(graph)
            faults = faults or tied_faults(graph, info.data.get("tied", False))
        if faults:
            raise Faults(faults)
        return connections

    @field_validator("feedback_strength_multipliers")
    @classmethod
    def _check_feedback_strengths(
        cls, factors: Mapping[str, float], info: ValidationInfo
    ) -> Mapping[str, float]:
        layers, connections = info.data.get("layers"), info.data.get("connections")
        if layers is None or connections is None:  # they did not validate
            return factors
        order = [INPUT, *layers]
        ranks = {name: [order.index(end) for end in ends(name)] for name in connections}
        top_down = [name for name, (pre, post) in ranks.items() if pre > post]
        names = f"; feedback connections are {', '.join(top_down)}" if top_down else "; there are none"
        faults = []
        for name, factor in factors.items():
            if name not in top_down:
                key = assigned(f"network.feedback_strength_multipliers.{name}", factor)
                hint = did_you_mean(name, top_down) or names
                faults.append(Fault(key, f"the network has no feedback connection {name}{hint}"))
        if faults:
            raise Faults(faults)
        return factors

    def strength(self, connection: str) -> float:
        """Factor of what a connection drives with.

        Args:
            connection: `pre-post` of this network.

        Returns:
            1 for all but the connections from a layer above.
        """
        if not self.is_top_down(connection):
            return 1.0
        return self.feedback_strength * self.feedback_strength_multipliers.get(connection, 1.0)

    @property
    def graph(self) -> Graph:
        """Layers, connections and kernels."""
        return Graph(self.layers, self.connections, self.kernels)

    @property
    def connection_pairs(self) -> list[tuple[str, str]]:
        """The connections as (pre, post), in their order."""
        return [ends(connection) for connection in self.connections]

    @property
    def activations(self) -> dict[str, str]:
        """The activation of every layer."""
        return {
            name: self.activation if own == SAME else own
            for name, layer in self.layers.items()
            for own in [getattr(layer, "activation", SAME)]
        }

    def shapes(self, image: Shape) -> dict[str, Shape]:
        """Shape of the units of the input and of each layer, from the input up, for an image.

        A layer of images takes its size from its first convolution from below; the others have to fit, see
        `misfits`.
        """
        shapes = {INPUT: image}
        for name, layer in self.layers.items():
            sizing = self.graph.sizing(name) if layer.is_image else None
            if sizing is not None:
                layer = self.graph.layer(sizing)
            shapes[name] = layer.shape(shapes[ends(sizing)[0]] if sizing else ())
        return shapes

    def misfits(self, image: Shape, num_classes: int) -> list[Fault]:
        """What of the network does not fit the images of a data set, or its number of classes."""
        shapes: dict[str, Shape] = {INPUT: image}
        for name, layer in self.layers.items():
            sizing = self.graph.sizing(name) if layer.is_image else None
            if sizing is None:
                shapes[name] = layer.shape(())
                continue
            below, does = ends(sizing)[0], self.graph.layer(sizing)
            key = f"network.kernels.{sizing}" if sizing in self.kernels else f"network.layers.{name}"
            if faults := does.misfits(key, below, shapes[below]):
                return faults
            shapes[name] = does.shape(shapes[below])
        faults = []
        for connection in self.connections:
            lower, upper = self.graph.low_and_high(connection)
            if self.graph.kind(connection) != "conv":
                continue
            led_to = self.graph.layer(connection).shape(shapes[lower])
            if led_to != shapes[upper]:
                pre, post = ends(connection)
                made = f"it turns the {_by(shapes[lower])} image of {lower} into {_by(led_to)}"
                sizes = f"{made}, but {upper} is {_by(shapes[upper])}"
                message = f"the images of {pre} and {post} do not fit the convolution between them: {sizes}"
                advice = (
                    "connect layers whose sizes match, or change stride, padding and "
                    f"pool_stride in network.kernels.{connection}"
                )
                faults.append(Fault(assigned("network.connections", connection), f"{message}; {advice}"))
        return faults or self._out_faults(shapes[OUTPUT], num_classes)

    def _out_faults(self, shape: Shape, num_classes: int) -> list[Fault]:
        """Without a readout the activity of layer out is the scores."""
        size = math.prod(shape)
        if self.readout or size == num_classes:
            return []
        out = self.layers[OUTPUT]
        stated = getattr(out, out.size_key)
        counted = "" if stated == size else f" ({size} units)"
        rule = (
            f"without a readout it must equal the number of classes, {num_classes}; change it or set "
            "network.readout=true"
        )
        return [Fault(f"network.layers.{OUTPUT}.{out.size_key} = {stated}{counted}", rule)]

    def forward_path_faults(self) -> list[Fault]:
        """Which layers do not lie on a way from the input to `out` along forward connections."""
        forward = tuple(name for name in self.connections if not self.is_feedback(name))
        return path_faults(Graph(self.layers, forward, self.kernels))

    def is_feedback(self, connection: str) -> bool:
        """Tell whether a `pre-post` connection leads backwards, or to its own layer.

        Args:
            connection: `pre-post`, both of this network.

        Returns:
            False when pre comes before post in the order of layers, `in` first.
        """
        return self.graph.is_feedback(connection)

    def is_top_down(self, connection: str) -> bool:
        """Tell whether a connection leads to a layer from one listed after it."""
        pre, post = ends(connection)
        return pre != post and self.is_feedback(connection)

    def is_tied(self, connection: str) -> bool:
        """Tell whether a connection uses the kernel of its forward partner."""
        if isinstance(self.tied, bool):
            return self.tied and self.is_top_down(connection)
        return connection in self.tied

    def partner(self, connection: str) -> str | None:
        """Find the forward connection between the same layers as a feedback connection.

        Args:
            connection: `pre-post` of this network.

        Returns:
            `post-pre` where that is one of the forward connections, with a kernel of the same shape; None
            otherwise, and None for every forward connection.
        """
        reverse = self.graph.reverse(connection)
        if reverse is None or self.graph.kernel_shape(reverse) != self.graph.kernel_shape(connection):
            return None
        return reverse


def _by(shape: Shape) -> str:
    """A shape in words."""
    return " × ".join(map(str, shape))
