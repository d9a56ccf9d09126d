"""Dense networks over any directed graph of named layers."""

from dataclasses import dataclass
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from hepcli.engine import Params, State
from hepcli.networks._graph import DenseConnection, GraphNetwork
from hepcli.networks._linear import apply_real, project


@dataclass(frozen=True)
class DenseNetwork(GraphNetwork):
    """Dense layers joined by any directed graph of connections (METHOD §2).

    Attributes:
        units: layer name -> number of units, in order.
        connections: (pre, post) pairs; pre may be ``in``.
        input_size: values per input example.
        num_classes: classes.
        activation_name: key of `ACTIVATIONS`.
        loss_name: key of `LOSSES`.
        readout: whether scores are a linear readout of ``out``; else the activity itself.
        feedback_strength: factor of what a layer receives from the layers above it.
    """

    units: tuple[tuple[str, int], ...]
    connections: tuple[tuple[str, str], ...]
    input_size: int
    num_classes: int
    activation_name: str = "sigmoid"
    loss_name: str = "cross_entropy"
    readout: bool = True
    feedback_strength: float = 1.0

    @property
    def unit_shapes(self) -> dict[str, tuple[int, ...]]:
        """(units,) for each layer."""
        return {name: (size,) for name, size in self.units}

    @property
    def linear_drive(self) -> bool:
        """A dense layer's drive is linear in the activities."""
        return True

    def connection(self, pre: str, post: str) -> tuple[nn.Module, tuple[int, ...]]:
        """A kernel (pre, post) and, forward, a bias (post,)."""
        sizes = dict(self.units) | {"in": self.input_size}
        return DenseConnection(sizes[post], self._is_forward(pre, post)), (sizes[pre],)

    def input_drive(self, params: Params, inputs: Float[Array, "batch ..."]) -> State:
        """Input connections and all biases, per layer (batch, units) or (units,)."""
        flat = inputs.reshape(inputs.shape[0], -1)
        drive: State = {name: jnp.zeros((size,), inputs.dtype) for name, size in self.units}
        for pre, post in self.connections:
            weights = params[f"{pre}-{post}"]
            if pre == "in":
                drive[post] = drive[post] + flat @ weights["kernel"]
            if "bias" in weights:
                drive[post] = drive[post] + weights["bias"]
        return drive

    def connection_drive(self, params: Params, pre: str, post: str, activity: State) -> Array:
        """W r_pre, (..., units)."""
        return apply_real(partial(project, params[f"{pre}-{post}"]["kernel"]), activity[pre])
