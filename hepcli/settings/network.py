"""The [network] table: layers, the connections between them, and the checks on their graph."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from hepcli.settings._limits import STRICT, NonNegativeFloat, name_of
from hepcli.settings.layers import LayerSettings, Shape
from hepcli.settings.parts import ACTIVATIONS, LOSSES
from hepcli.settings.problems import Fault, Faults, assigned, did_you_mean

ActivationName = Annotated[str, name_of(ACTIVATIONS)]
LossName = Annotated[str, name_of(LOSSES)]

INPUT = "in"
OUTPUT = "out"
READOUT = "readout"

_LAYER_NAME = re.compile(r"[a-z][a-z0-9_]*")
_CONNECTION = re.compile(r"([a-z][a-z0-9_]*)-([a-z][a-z0-9_]*)")


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The directed graph of layers. Its order of `layers` tells forward from feedback.

    Attributes:
        activation: what turns the state of a unit into its activity.
        loss: what the network is trained on; `squared_error` may go without a readout.
        readout: whether a linear readout of layer `out` gives the class scores.
        initial_angle_deg: angle in degrees that mixes each feedback kernel with its forward
            partner at the start: 0 symmetric, 90 independent.
        feedback_strength: factor of what a layer receives from the layers above it; 0 leaves it out.
        layers: name to layer, from the input side to `out`.
        connections: `pre-post` names; `in` is the input.
    """

    __pydantic_config__ = STRICT

    activation: ActivationName
    loss: LossName = "cross_entropy"
    readout: bool = True
    initial_angle_deg: Annotated[float, Field(ge=0.0, le=90.0)] = 0.0
    feedback_strength: NonNegativeFloat = 1.0
    layers: Mapping[str, LayerSettings]
    connections: tuple[str, ...]

    # Field validators, not one for the whole table: they run although another key is wrong,
    # so that a user sees every error at once.

    @field_validator("readout")
    @classmethod
    def _check_readout(cls, readout: bool, info: ValidationInfo) -> bool:
        if not readout and info.data.get("loss") == "cross_entropy":
            message = 'must be true with network.loss = "cross_entropy"; "squared_error" may go without'
            raise Faults([Fault(assigned("network.readout", readout), message)])
        return readout

    @field_validator("layers")
    @classmethod
    def _check_layers(cls, layers: Mapping[str, LayerSettings]) -> Mapping[str, LayerSettings]:
        if problems := _layer_problems(layers):
            raise Faults(problems)
        return layers

    @field_validator("connections")
    @classmethod
    def _check_connections(cls, connections: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        layers = info.data.get("layers")  # absent where it did not validate
        names = None if layers is None else tuple(layers)
        problems = _connection_problems(connections, names)
        if not problems and layers is not None:
            problems = _path_problems(connections, tuple(layers)) or _image_problems(connections, layers)
        if problems:
            raise Faults(problems)
        return connections

    @property
    def connection_pairs(self) -> list[tuple[str, str]]:
        """The connections as (pre, post), in their order."""
        return [_ends(connection) for connection in self.connections]

    def shapes(self, image: Shape) -> dict[str, Shape]:
        """Shape of the units of the input and of each layer, from the input up, for an image.

        A layer of images takes its size from its first connection from below; the others have to fit, see
        `misfits`.
        """
        shapes = {INPUT: image}
        for name, layer in self.layers.items():
            shapes[name] = layer.shape(shapes.get(self._source(name), ()))
        return shapes

    def misfits(self, image: Shape, num_classes: int) -> list[Fault]:
        """What of the network does not fit the images of a data set, or its number of classes."""
        shapes: dict[str, Shape] = {INPUT: image}
        for name, layer in self.layers.items():
            below = self._source(name)
            if problems := layer.misfits(f"network.layers.{name}", below, shapes.get(below, ())):
                return problems
            shapes[name] = layer.shape(shapes.get(below, ()))
        problems = []
        for connection in self.connections:
            lower, upper = _ends(connection)
            if self.is_feedback(connection):
                lower, upper = upper, lower
            if self.layers[upper].shape(shapes[lower]) != shapes[upper]:
                pre, post = _ends(connection)
                message = f"the images of {pre} and {post} do not fit the convolution between them"
                advice = (
                    "connect layers whose sizes follow from one another, or change pool_stride and padding"
                )
                problems.append(Fault(assigned("network.connections", connection), f"{message}; {advice}"))
        return problems or self._out_problems(shapes[OUTPUT], num_classes)

    def _source(self, name: str) -> str:
        """Where the first connection from below to a layer comes from; empty where there is none."""
        order = [INPUT, *self.layers]
        lower = order[: order.index(name)]
        return next((pre for pre, post in self.connection_pairs if post == name and pre in lower), "")

    def _out_problems(self, shape: Shape, num_classes: int) -> list[Fault]:
        """Without a readout the activity of layer out is the scores."""
        size = math.prod(shape)
        if self.readout or size == num_classes:
            return []
        out = self.layers[OUTPUT]
        stated = getattr(out, out.size_key)
        counted = "" if stated == size else f" ({size} units)"
        rule = (
            f"without a readout it must be the number of classes, {num_classes}, or set network.readout=true"
        )
        return [Fault(f"network.layers.{OUTPUT}.{out.size_key} = {stated}{counted}", rule)]

    def forward_path_problems(self) -> list[Fault]:
        """Which layers do not lie on a way from the input to `out` along forward connections."""
        forward = tuple(name for name in self.connections if not self.is_feedback(name))
        return _path_problems(forward, tuple(self.layers))

    @property
    def has_pair(self) -> bool:
        """Whether any feedback connection has a forward partner."""
        return any(self.partner(connection) for connection in self.connections)

    def is_feedback(self, connection: str) -> bool:
        """Tell whether a `pre-post` connection leads backwards, or to its own layer.

        Args:
            connection: `pre-post`, both of this network.

        Returns:
            False when pre comes before post in the order of layers, `in` first.
        """
        order = [INPUT, *self.layers]
        pre, post = _ends(connection)
        return order.index(pre) >= order.index(post)

    def is_top_down(self, connection: str) -> bool:
        """Tell whether a connection leads to a layer from one listed after it."""
        pre, post = _ends(connection)
        return pre != post and self.is_feedback(connection)

    def partner(self, connection: str) -> str | None:
        """Find the forward connection between the same layers as a feedback connection.

        Args:
            connection: `pre-post` of this network.

        Returns:
            `post-pre` where that is one of the forward connections; None otherwise, and None
            for every forward connection.
        """
        pre, post = _ends(connection)
        reverse = f"{post}-{pre}"
        if reverse in self.connections and not self.is_feedback(reverse):
            return reverse
        return None


def _ends(connection: str) -> tuple[str, str]:
    pre, _, post = connection.partition("-")
    return pre, post


def _layer_problems(layers: Mapping[str, LayerSettings]) -> list[Fault]:
    """Check the names of the layers."""
    if not layers:
        return [Fault("network.layers = {}", "must hold at least the layer out")]
    problems = []
    for name in layers:
        key = f"network.layers.{name}"
        if name in (INPUT, READOUT):
            problems.append(Fault(key, f"{name} is taken; choose another name"))
        elif not _LAYER_NAME.fullmatch(name):
            rule = "a layer's name is lower-case letters, digits and _, a letter first"
            problems.append(Fault(key, rule))
    if OUTPUT not in layers:
        names = ", ".join(layers)
        problems.append(Fault("network.layers", f"one layer must be called out, found {names}"))
    flat = [name for name, layer in layers.items() if not layer.is_image]
    for name in list(layers)[list(layers).index(flat[0]) :] if flat else ():
        if layers[name].is_image:
            kind, other = layers[name].kind, layers[flat[0]].kind
            rule = f"a {kind} layer cannot come after a {other} one ({flat[0]}), which has no image"
            problems.append(Fault(f"network.layers.{name}", rule))
    return problems


def _connection_problems(connections: tuple[str, ...], layers: tuple[str, ...] | None) -> list[Fault]:
    """Check each connection by itself; `layers` is None where the layers are wrong already."""
    problems = []
    for connection, count in Counter(connections).items():
        key = assigned("network.connections", connection)
        match = _CONNECTION.fullmatch(connection)
        if not match:
            problems.append(Fault(key, 'must be "pre-post", such as "in-l1"'))
            continue
        if count > 1:
            problems.append(Fault(key, f"is listed {count} times"))
        pre, post = match.groups()
        if post == INPUT:
            problems.append(Fault(key, "the input takes no connection"))
        for name in dict.fromkeys((pre, post)):
            if layers is not None and name not in (INPUT, *layers):
                hint = did_you_mean(name, layers) or f"; layers are {', '.join(layers)}"
                problems.append(Fault(key, f"there is no layer {name}{hint}"))
    return problems


def _path_problems(connections: tuple[str, ...], layers: tuple[str, ...]) -> list[Fault]:
    """Check that every layer lies on a way from the input to `out`."""
    pairs = [_ends(connection) for connection in connections]
    driven = _reached(INPUT, pairs)
    useful = _reached(OUTPUT, [(post, pre) for pre, post in pairs])
    problems = []
    for name in layers:
        key = f"network.layers.{name}"
        if name not in driven:
            problems.append(Fault(key, f"no connections lead from in to {name}"))
        if name not in useful:
            problems.append(Fault(key, f"no connections lead from {name} to out"))
    return problems


def _image_problems(connections: tuple[str, ...], layers: Mapping[str, LayerSettings]) -> list[Fault]:
    """Check that every layer of images has one below it, and none is connected to itself."""
    order = (INPUT, *layers)
    pairs = [_ends(connection) for connection in connections]
    problems = []
    for name, layer in layers.items():
        if not layer.is_image:
            continue
        if (name, name) in pairs:
            rule = f"a {layer.kind} layer cannot be connected to itself"
            problems.append(Fault(assigned("network.connections", f"{name}-{name}"), rule))
        if not any(post == name and order.index(pre) < order.index(name) for pre, post in pairs):
            rule = f"a {layer.kind} layer needs a connection from in or from a layer listed before it"
            problems.append(Fault(f"network.layers.{name}", rule))
    return problems


def _reached(start: str, pairs: Iterable[tuple[str, str]]) -> set[str]:
    """Collect every name that can be reached from `start` along the pairs."""
    pairs = list(pairs)
    reached = {start}
    frontier = {start}
    while frontier:
        frontier = {post for pre, post in pairs if pre in frontier} - reached
        reached |= frontier
    return reached
