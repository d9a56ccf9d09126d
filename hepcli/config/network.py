"""The [network] table: layers, the connections between them, and the checks on their graph."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationInfo, field_validator

from hepcli.config.problems import Problem, Problems, assigned, did_you_mean

ActivationName = Literal["sigmoid", "dsilu"]
LossName = Literal["cross_entropy", "squared_error"]
PaddingName = Literal["same", "valid"]
WeightsName = Literal["shared", "local"]

INPUT = "in"
OUTPUT = "out"
READOUT = "readout"

_LAYER_NAME = re.compile(r"[a-z][a-z0-9_]*")
_CONNECTION = re.compile(r"([a-z][a-z0-9_]*)-([a-z][a-z0-9_]*)")


class Table(BaseModel):
    """What every table shares: no unknown keys, no conversions, no changes, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class DenseLayer(Table):
    """A layer of units, all connected to all.

    Attributes:
        kind: the kind of layer.
        units: number of units.
    """

    kind: Literal["dense"] = "dense"
    units: Annotated[int, Field(ge=1)]


class ConvLayer(Table):
    """A layer of images, with the convolution and the softmax pooling that drive it from below.

    Attributes:
        kind: the kind of layer.
        channels: channels.
        kernel_size: rows and columns of the kernel, moved one by one.
        padding: `same` keeps the size of the image before pooling, `valid` stays inside it.
        pool_size: rows and columns of a pooling window; 1 with a pool_stride of 1 does not pool.
        pool_stride: rows and columns from one window to the next.
        pool_temperature: of the softmax pooling; near 0, from 1e-6 on, the maximum.
        weights: `shared` by all places, or `local`, a kernel for each.
    """

    kind: Literal["conv"]
    channels: Annotated[int, Field(ge=1)]
    kernel_size: Annotated[int, Field(ge=1)] = 3
    padding: PaddingName = "same"
    pool_size: Annotated[int, Field(ge=1)] = 2
    pool_stride: Annotated[int, Field(ge=1)] = 2
    pool_temperature: Annotated[float, Field(ge=1e-6)] = 1.0
    weights: WeightsName = "shared"


LAYER_KINDS: dict[str, type[Table]] = {"dense": DenseLayer, "conv": ConvLayer}


def layer_kind(layer: Any) -> Any:
    """The kind of a layer, given as a raw table or as a model; dense unless it says otherwise."""
    return layer.get("kind", "dense") if isinstance(layer, Mapping) else getattr(layer, "kind", "dense")


LayerConfig = Annotated[
    Annotated[DenseLayer, Tag("dense")] | Annotated[ConvLayer, Tag("conv")], Discriminator(layer_kind)
]


class NetworkConfig(Table):
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

    activation: ActivationName
    loss: LossName = "cross_entropy"
    readout: bool = True
    initial_angle_deg: Annotated[float, Field(ge=0.0, le=90.0)] = 0.0
    feedback_strength: Annotated[float, Field(ge=0.0)] = 1.0
    layers: Mapping[str, LayerConfig]
    connections: tuple[str, ...]

    # Field validators, not one for the whole table: they run although another key is wrong,
    # so that a user sees every error at once.

    @field_validator("readout")
    @classmethod
    def _check_readout(cls, readout: bool, info: ValidationInfo) -> bool:
        if not readout and info.data.get("loss") == "cross_entropy":
            message = 'must be true with network.loss = "cross_entropy"; "squared_error" may go without'
            raise Problems([Problem(assigned("network.readout", readout), message)])
        return readout

    @field_validator("layers")
    @classmethod
    def _check_layers(cls, layers: Mapping[str, LayerConfig]) -> Mapping[str, LayerConfig]:
        if problems := _layer_problems(layers):
            raise Problems(problems)
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
            raise Problems(problems)
        return connections

    @property
    def connection_pairs(self) -> list[tuple[str, str]]:
        """The connections as (pre, post), in their order."""
        return [_ends(connection) for connection in self.connections]

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


def _layer_problems(layers: Mapping[str, LayerConfig]) -> list[Problem]:
    """Check the names of the layers."""
    if not layers:
        return [Problem("network.layers = {}", "must hold at least the layer out")]
    problems = []
    for name in layers:
        key = f"network.layers.{name}"
        if name in (INPUT, READOUT):
            problems.append(Problem(key, f"{name} is taken; choose another name"))
        elif not _LAYER_NAME.fullmatch(name):
            rule = "a layer's name is lower-case letters, digits and _, a letter first"
            problems.append(Problem(key, rule))
    if OUTPUT not in layers:
        names = ", ".join(layers)
        problems.append(Problem("network.layers", f"one layer must be called out, found {names}"))
    dense = [name for name, layer in layers.items() if isinstance(layer, DenseLayer)]
    for name in list(layers)[list(layers).index(dense[0]) :] if dense else ():
        if isinstance(layers[name], ConvLayer):
            rule = f"a conv layer cannot come after a dense one ({dense[0]}), which has no image"
            problems.append(Problem(f"network.layers.{name}", rule))
    return problems


def _connection_problems(connections: tuple[str, ...], layers: tuple[str, ...] | None) -> list[Problem]:
    """Check each connection by itself; `layers` is None where the layers are wrong already."""
    problems = []
    for connection, count in Counter(connections).items():
        key = assigned("network.connections", connection)
        match = _CONNECTION.fullmatch(connection)
        if not match:
            problems.append(Problem(key, 'must be "pre-post", such as "in-l1"'))
            continue
        if count > 1:
            problems.append(Problem(key, f"is listed {count} times"))
        pre, post = match.groups()
        if post == INPUT:
            problems.append(Problem(key, "the input takes no connection"))
        for name in dict.fromkeys((pre, post)):
            if layers is not None and name not in (INPUT, *layers):
                hint = did_you_mean(name, layers) or f"; layers are {', '.join(layers)}"
                problems.append(Problem(key, f"there is no layer {name}{hint}"))
    return problems


def _path_problems(connections: tuple[str, ...], layers: tuple[str, ...]) -> list[Problem]:
    """Check that every layer lies on a way from the input to `out`."""
    pairs = [_ends(connection) for connection in connections]
    driven = _reached(INPUT, pairs)
    useful = _reached(OUTPUT, [(post, pre) for pre, post in pairs])
    problems = []
    for name in layers:
        key = f"network.layers.{name}"
        if name not in driven:
            problems.append(Problem(key, f"no connections lead from in to {name}"))
        if name not in useful:
            problems.append(Problem(key, f"no connections lead from {name} to out"))
    return problems


def _image_problems(connections: tuple[str, ...], layers: Mapping[str, LayerConfig]) -> list[Problem]:
    """Check that every conv layer has an image below it, and none is connected to itself."""
    order = (INPUT, *layers)
    pairs = [_ends(connection) for connection in connections]
    problems = []
    for name in (name for name, layer in layers.items() if isinstance(layer, ConvLayer)):
        if (name, name) in pairs:
            rule = "a conv layer cannot be connected to itself"
            problems.append(Problem(assigned("network.connections", f"{name}-{name}"), rule))
        if not any(post == name and order.index(pre) < order.index(name) for pre, post in pairs):
            rule = "a conv layer needs a connection from in or from a layer listed before it"
            problems.append(Problem(f"network.layers.{name}", rule))
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
