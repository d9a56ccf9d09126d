"""Convolutional networks: layers of images, dense layers on top of them, and feedback through both."""

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from hepcli.engine import Params, State
from hepcli.networks._convolution import ConvConnection, ConvLayer, Image, bottom_up, top_down
from hepcli.networks._graph import DenseConnection, GraphNetwork
from hepcli.networks._linear import apply_real, project


class DenseLayer(NamedTuple):
    """A layer of units that flattens what drives it, and drives every unit of it."""

    units: int


@dataclass(frozen=True)
class ConvNetwork(GraphNetwork):
    """Convolutional layers and, on top of them, dense ones (METHOD §2).

    What a connection is follows from the layer at its upper end. A convolutional layer is an image whose
    size follows from its first connection from below; the others have to fit, see `misfits`.

    Attributes:
        specs: layer name -> layer, in order; no convolutional layer behind a dense one.
        connections: (pre, post) pairs; pre may be ``in``.
        input_shape: height, width and channels of an input image.
        num_classes: classes.
        activation_name: key of `ACTIVATIONS`.
        loss_name: key of `LOSSES`.
        readout: whether scores are a linear readout of ``out``; else the activity itself.
        feedback_strength: factor of what a layer receives from the layers above it.
    """

    specs: tuple[tuple[str, ConvLayer | DenseLayer], ...]
    connections: tuple[tuple[str, str], ...]
    input_shape: Image
    num_classes: int
    activation_name: str = "dsilu"
    loss_name: str = "cross_entropy"
    readout: bool = True
    feedback_strength: float = 1.0

    @property
    def linear_drive(self) -> bool:
        """Pooling is not linear."""
        return False

    @property
    def unit_shapes(self) -> dict[str, tuple[int, ...]]:
        """(height, width, channels) or (units,) for each layer, from the input up."""
        shapes: dict[str, tuple[int, ...]] = {"in": self.input_shape}
        for name, spec in self.specs:
            if isinstance(spec, ConvLayer):
                shapes[name] = spec.pooled(shapes[self.source(name)])  # type: ignore[arg-type]
            else:
                shapes[name] = (spec.units,)
        return {name: shape for name, shape in shapes.items() if name != "in"}

    def source(self, name: str) -> str:
        """The layer, or the input `in`, whose image a convolutional layer takes its size from."""
        names = [layer for layer, _ in self.specs]
        lower = {"in", *names[: names.index(name)]}
        return next(pre for pre, post in self.connections if post == name and pre in lower)

    def misfits(self) -> list[tuple[str, str]]:
        """Connections (pre, post) of a convolutional layer with an image of the wrong size below it."""
        specs, shapes = dict(self.specs), self._shapes
        found = []
        for pre, post in self.connections:
            lower, upper = self._ends(pre, post)
            spec = specs[upper]
            if isinstance(spec, ConvLayer) and spec.pooled(shapes[lower]) != shapes[upper]:  # type: ignore[arg-type]
                found.append((pre, post))
        return found

    def connection(self, pre: str, post: str) -> tuple[nn.Module, tuple[int, ...]]:
        """A dense kernel between flattened layers, or a convolution's, feedback of the forward shape."""
        lower, upper = self._ends(pre, post)
        spec, shapes, is_forward = dict(self.specs)[upper], self._shapes, self._is_forward(pre, post)
        if isinstance(spec, ConvLayer):
            return ConvConnection(spec, is_forward), shapes[lower]
        return DenseConnection(math.prod(shapes[post]), is_forward), (math.prod(shapes[pre]),)

    def input_drive(self, params: Params, inputs: Float[Array, "batch ..."]) -> State:
        """Input connections, pooled, and all biases, per layer (batch, *units) or one for all places."""
        drive: State = {name: jnp.zeros(shape[-1:], inputs.dtype) for name, shape in self.unit_shapes.items()}
        for pre, post in self.connections:
            weights = params[f"{pre}-{post}"]
            if pre == "in":
                drive[post] = drive[post] + self.connection_drive(params, pre, post, {"in": inputs})
            if "bias" in weights:
                drive[post] = drive[post] + weights["bias"]
        return drive

    def connection_drive(self, params: Params, pre: str, post: str, activity: State) -> Array:
        """Bottom-up or top-down drive of `post`, without bias, (..., *units); `pre` may be ``in``."""
        _, upper = self._ends(pre, post)
        spec, kernel, shapes = dict(self.specs)[upper], params[f"{pre}-{post}"]["kernel"], self._shapes
        if isinstance(spec, ConvLayer):
            if upper == post:
                return bottom_up(spec, kernel, activity[pre])
            return top_down(spec, kernel, activity[post], activity[pre])
        leading = activity[pre].shape[: activity[pre].ndim - len(shapes[pre])]
        flat = activity[pre].reshape(*leading, -1)
        return apply_real(partial(project, kernel), flat).reshape(*leading, *shapes[post])

    @property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {"in": self.input_shape} | self.unit_shapes

    def _ends(self, pre: str, post: str) -> tuple[str, str]:
        """Lower and upper end of a connection."""
        return (pre, post) if self._is_forward(pre, post) else (post, pre)
