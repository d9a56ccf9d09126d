"""Networks of dense layers without a configuration around them."""

from collections.abc import Iterable

from hepcli.networks import Network, build_network
from hepcli.settings import DenseLayer, NetworkSettings


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
        activation_name: of all layers.
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
