"""The network of a configuration for a data set, and what of it does not fit the images."""

import math
from collections.abc import Mapping

from hepcli.config import Config, ConvLayer, LayerConfig
from hepcli.errors import ConfigError
from hepcli.experiments.build import DataShape
from hepcli.networks import ConvLayer as ConvSpec
from hepcli.networks import ConvNetwork, DenseNetwork, GraphNetwork
from hepcli.networks import DenseLayer as DenseSpec


def build_network(config: Config, shape: DataShape) -> GraphNetwork:
    """The network of a configuration for a data set.

    Raises:
        ConfigError: the layers do not fit the images, or without a readout layer out has not a unit per
            class.
    """
    layers = config.network.layers
    kind = _convolutional if any(isinstance(layer, ConvLayer) for layer in layers.values()) else _dense
    network = kind(config, shape)
    _check_out(config, network, shape.num_classes)
    return network


def _dense(config: Config, shape: DataShape) -> DenseNetwork:
    network = config.network
    return DenseNetwork(
        units=tuple((name, layer.units) for name, layer in network.layers.items()),  # type: ignore[union-attr]
        connections=tuple(network.connection_pairs),
        input_size=math.prod(shape.image),
        num_classes=shape.num_classes,
        activation_name=network.activation,
        loss_name=network.loss,
        readout=network.readout,
        feedback_strength=network.feedback_strength,
    )


def _convolutional(config: Config, shape: DataShape) -> ConvNetwork:
    network = config.network
    height, width, channels = shape.image
    built = ConvNetwork(
        specs=tuple((name, _spec(layer)) for name, layer in network.layers.items()),
        connections=tuple(network.connection_pairs),
        input_shape=(height, width, channels),
        num_classes=shape.num_classes,
        activation_name=network.activation,
        loss_name=network.loss,
        readout=network.readout,
        feedback_strength=network.feedback_strength,
    )
    _check_images(network.layers, built)
    return built


def _spec(layer: LayerConfig) -> ConvSpec | DenseSpec:
    fields = layer.model_dump(exclude={"kind"})
    return ConvSpec(**fields) if isinstance(layer, ConvLayer) else DenseSpec(**fields)


def _check_images(layers: Mapping[str, LayerConfig], network: ConvNetwork) -> None:
    """Every image has pixels, and every connection of a conv layer fits the images at its ends."""
    shapes = {"in": network.input_shape} | network.unit_shapes
    for name, layer in layers.items():
        if not isinstance(layer, ConvLayer):
            continue
        below = network.source(name)
        rows, columns = shapes[below][:2]
        if 0 in shapes[name]:
            raise ConfigError(
                f"network.layers.{name}: nothing is left of the {rows} × {columns} image of {below} after "
                f"kernel_size = {layer.kernel_size} ({layer.padding}) and pool_size = {layer.pool_size}",
                f'Set a smaller network.layers.{name}.pool_size, padding="same", or fewer conv layers.',
            )
        widest = 2 * max(rows, columns) + 1  # from any place beyond the far side
        if layer.kernel_size > widest:
            raise ConfigError(
                f"network.layers.{name}.kernel_size = {layer.kernel_size}: more than twice the "
                f"{rows} × {columns} image of {below}",
                f"Give at most {widest}.",
            )
    for pre, post in network.misfits():
        raise ConfigError(
            f'network.connections = "{pre}-{post}": the images of {pre} and {post} do not fit the '
            "convolution between them",
            "Connect layers whose sizes follow from one another, or change pool_stride and padding.",
        )


def _check_out(config: Config, network: GraphNetwork, num_classes: int) -> None:
    """Without a readout the activity of layer out is the scores."""
    size = math.prod(network.unit_shapes["out"])
    if config.network.readout or size == num_classes:
        return
    layer = config.network.layers["out"]
    key = "channels" if isinstance(layer, ConvLayer) else "units"
    stated = getattr(layer, key)
    counted = "" if stated == size else f" ({size} units)"
    raise ConfigError(
        f"network.layers.out.{key} = {stated}{counted}: without a readout it must be the number of classes, "
        f"{num_classes}",
        f"Set network.layers.out.{key}={num_classes} or network.readout=true.",
    )
