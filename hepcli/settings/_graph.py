"""The checks on the graph of a network: its layers, connections and kernels."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hepcli.settings.faults import Fault, assigned, did_you_mean
from hepcli.settings.layers import ConvLayer, DenseLayer, KernelSettings, LayerSettings

INPUT = "in"
OUTPUT = "out"
READOUT = "readout"

_LAYER_NAME = re.compile(r"[a-z][a-z0-9_]*")
_CONNECTION = re.compile(r"([a-z][a-z0-9_]*)-([a-z][a-z0-9_]*)")
_SHAPE_KEYS = ("kind", "kernel_size", "weights")  # what the shape of a kernel depends on, beside the layers


@dataclass(frozen=True)
class Graph:
    """Layers in their order, the connections between them, and what those do otherwise than their layers.

    Attributes:
        layers: name to layer, from the input side up.
        connections: `pre-post` names.
        kernels: connection to what it does otherwise.
    """

    layers: Mapping[str, LayerSettings]
    connections: Sequence[str]
    kernels: Mapping[str, KernelSettings]

    def is_feedback(self, connection: str) -> bool:
        """Whether a connection leads backwards, or to its own layer."""
        order = [INPUT, *self.layers]
        pre, post = ends(connection)
        return order.index(pre) >= order.index(post)

    def low_and_high(self, connection: str) -> tuple[str, str]:
        """The lower and the upper end of a connection."""
        pre, post = ends(connection)
        return (post, pre) if self.is_feedback(connection) else (pre, post)

    def reverse(self, connection: str) -> str | None:
        """The forward connection between the same layers as a feedback connection; None without one."""
        pre, post = ends(connection)
        name = f"{post}-{pre}"
        forward = name in self.connections and pre != post and not self.is_feedback(name)
        return name if forward and self.is_feedback(connection) else None

    def kernel(self, connection: str) -> KernelSettings:
        """What a connection does otherwise than its layer; feedback does as its forward partner."""
        if connection in self.kernels:
            return self.kernels[connection]
        return self.kernels.get(self.reverse(connection) or "", KernelSettings())

    def kind(self, connection: str) -> str:
        """`conv` or `dense`."""
        return self.kernel(connection).get("kind", self.layers[self.low_and_high(connection)[1]].kind)

    def layer(self, connection: str, units: int = 1) -> LayerSettings:
        """What a connection does, as the settings of a layer that does it alone.

        Args:
            connection: of this graph.
            units: of its upper end, for a dense connection onto an image.
        """
        upper = self.layers[self.low_and_high(connection)[1]]
        own = self.kernel(connection)
        if self.kind(connection) == "dense" and isinstance(upper, ConvLayer):
            return DenseLayer(units=units, gain=own.get("gain", upper.gain))
        given: Mapping[str, Any] = {key: value for key, value in own.items() if key not in ("kind", "bias")}
        return replace(upper, **given) if given else upper

    def kernel_shape(self, connection: str) -> tuple[object, ...]:
        """What decides the shape of a kernel between given layers."""
        layer = self.layer(connection)
        is_local = getattr(layer, "weights", "shared") == "local"  # a kernel for every place there is
        keys = (*_SHAPE_KEYS, "stride", "padding") if is_local else _SHAPE_KEYS
        return tuple(getattr(layer, key, None) for key in keys)

    def sizing(self, layer: str) -> str | None:
        """The connection that an image takes its size from: its first convolution from below."""
        for connection in self.connections:
            lower, upper = self.low_and_high(connection)
            if (
                upper == layer != lower
                and not self.is_feedback(connection)
                and self.kind(connection) == "conv"
            ):
                return connection
        return None


def ends(connection: str) -> tuple[str, str]:
    """(pre, post)."""
    pre, _, post = connection.partition("-")
    return pre, post


def layer_faults(layers: Mapping[str, LayerSettings]) -> list[Fault]:
    """Check the names of the layers."""
    if not layers:
        return [Fault("network.layers = {}", "must contain at least the layer out")]
    faults = []
    for name in layers:
        key = f"network.layers.{name}"
        if name in (INPUT, READOUT):
            faults.append(Fault(key, f"{name} is reserved; choose another name"))
        elif not _LAYER_NAME.fullmatch(name):
            rule = "a layer name consists of lower-case letters, digits and _, and starts with a letter"
            faults.append(Fault(key, rule))
    if OUTPUT not in layers:
        names = ", ".join(layers)
        faults.append(Fault("network.layers", f"one layer must be named out; found {names}"))
    order = list(layers)
    for name in order[order.index(OUTPUT) + 1 :] if OUTPUT in layers else ():
        rule = (
            "comes after out, so its connection to out would be feedback; put it before out in your own "
            "preset (hep presets NAME > mine.toml), because --set appends layers at the end"
        )
        faults.append(Fault(f"network.layers.{name}", rule))
    return faults


def connection_faults(connections: Sequence[str], layers: Sequence[str] | None) -> list[Fault]:
    """Check each connection by itself; `layers` is None where the layers are wrong already."""
    faults = []
    for connection, count in Counter(connections).items():
        key = assigned("network.connections", connection)
        match = _CONNECTION.fullmatch(connection)
        if not match:
            faults.append(Fault(key, 'must be "pre-post", such as "in-l1"'))
            continue
        if count > 1:
            faults.append(Fault(key, f"is listed {count} times"))
        pre, post = match.groups()
        if post == INPUT:
            faults.append(Fault(key, "the input cannot receive connections"))
        for name in dict.fromkeys((pre, post)):
            if layers is not None and name not in (INPUT, *layers):
                hint = did_you_mean(name, layers) or f"; layers are {', '.join(layers)}"
                faults.append(Fault(key, f"there is no layer {name}{hint}"))
    return faults


def path_faults(graph: Graph) -> list[Fault]:
    """Check that every layer lies on a way from the input to `out`."""
    pairs = [ends(connection) for connection in graph.connections]
    driven = _reached(INPUT, pairs)
    useful = _reached(OUTPUT, [(post, pre) for pre, post in pairs])
    faults = []
    for name in graph.layers:
        key = f"network.layers.{name}"
        if name not in driven:
            faults.append(Fault(key, f"no path of connections leads from in to {name}"))
        if name not in useful:
            faults.append(Fault(key, f"no path of connections leads from {name} to out"))
    return faults


def kernel_faults(graph: Graph) -> list[Fault]:
    """Check that every entry of `network.kernels` belongs to a connection and suits it."""
    faults = []
    for name, own in graph.kernels.items():
        key = f"network.kernels.{name}"
        if name not in graph.connections:
            hint = did_you_mean(name, graph.connections)
            faults.append(Fault(key, f"the network has no connection {name}{hint}"))
            continue
        if graph.kind(name) == "conv" and not graph.layers[graph.low_and_high(name)[1]].is_image:
            rule = f"{graph.low_and_high(name)[1]} is a dense layer and cannot receive a convolution"
            faults.append(Fault(assigned(f"{key}.kind", "conv"), rule))
            continue
        if graph.kind(name) == "dense":
            for given in sorted({*own} - {"kind", "gain", "bias"}):
                faults.append(
                    Fault(f"{key}.{given}", "applies only to convolutions, and this connection is dense")
                )
        if "bias" in own and graph.is_feedback(name):
            faults.append(Fault(f"{key}.bias", "feedback connections have no bias"))
    return faults


def image_faults(graph: Graph) -> list[Fault]:
    """Check that convolutions lead from images, and that every image takes its size from one of them."""
    faults = []
    for connection in graph.connections:
        lower, upper = graph.low_and_high(connection)
        reverse = graph.reverse(connection)
        if graph.kind(connection) != "conv" or (reverse is not None and graph.kind(reverse) == "conv"):
            continue  # what holds of a forward connection holds of its feedback
        key = assigned("network.connections", connection)
        if lower == upper:
            faults.append(Fault(key, f"a {graph.layers[upper].kind} layer cannot be connected to itself"))
        elif lower != INPUT and not graph.layers[lower].is_image:
            kind = f'set network.kernels.{connection}.kind="dense"'
            rule = f"{lower} is a dense layer, so the convolution into {upper} has no image as input; {kind}"
            faults.append(Fault(key, rule))
    for name, layer in graph.layers.items():
        if layer.is_image and graph.sizing(name) is None:
            rule = (
                f"a {layer.kind} layer needs a convolution from in or from a layer listed before it, "
                "which determines its size"
            )
            faults.append(Fault(f"network.layers.{name}", rule))
    return faults


def tied_faults(graph: Graph, tied: bool | tuple[str, ...]) -> list[Fault]:
    """Check that every tied connection is feedback with a forward partner of the same shape."""
    if isinstance(tied, bool):
        top_down = [name for name in graph.connections if graph.is_feedback(name) and len({*ends(name)}) == 2]
        if tied and not top_down:
            rule = (
                "there is no feedback connection to a lower layer; list both directions, such as "
                "l1-l2 and l2-l1"
            )
            return [Fault(assigned("network.tied", tied), rule)]
        named = top_down if tied else []
    else:
        named = list(tied)
    faults = []
    for name in named:
        key = assigned("network.tied", name if not isinstance(tied, bool) else tied)
        if name not in graph.connections:
            hint = did_you_mean(name, graph.connections)
            faults.append(Fault(key, f"the network has no connection {name}{hint}"))
            continue
        partner = graph.reverse(name)
        if partner is None:
            why = "is not feedback" if not graph.is_feedback(name) else "has no forward partner"
            faults.append(Fault(key, f"{name} {why}; set network.tied to a list of connections without it"))
        elif _without_gain(graph.layer(name)) != _without_gain(graph.layer(partner)):
            rule = f"{name} and {partner} differ in shape: leave out network.kernels.{name}"
            faults.append(Fault(key, rule))
    return faults


def _without_gain(layer: LayerSettings) -> LayerSettings:
    """The layer but for how its kernels start."""
    return replace(layer, gain=1.0) if hasattr(layer, "gain") else layer


def _reached(start: str, pairs: Iterable[tuple[str, str]]) -> set[str]:
    """Collect every name that can be reached from `start` along the pairs."""
    pairs = list(pairs)
    reached = {start}
    frontier = {start}
    while frontier:
        frontier = {post for pre, post in pairs if pre in frontier} - reached
        reached |= frontier
    return reached
