"""What networks of all kinds share: the directed graph of layers, the activation, the readout."""

import math
from abc import ABC, abstractmethod
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Inexact

from hepcli.engine import Gradient, Params, State
from hepcli.networks._activations import ACTIVATIONS
from hepcli.networks._linear import apply_real, project
from hepcli.networks._losses import LOSSES


class DenseConnection(nn.Module):
    """A kernel (pre, post), LeCun-normal, and for forward connections a bias (post,), zero."""

    units: int
    use_bias: bool

    @nn.compact
    def __call__(self, pre: Float[Array, "... pre"]) -> Float[Array, "... post"]:
        """kernelᵀ pre + bias."""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (pre.shape[-1], self.units))
        post = pre @ kernel
        return post + self.param("bias", nn.initializers.zeros, (self.units,)) if self.use_bias else post


class GraphNetwork(ABC):
    """Layers joined by a directed graph of connections, and a readout of layer ``out`` (METHOD §1).

    Layers are listed from the input up. A connection is forward, and carries a bias, when its source is
    the input or is listed before its target; else it is feedback. A subclass is a frozen dataclass with
    these attributes among its fields.

    Attributes:
        connections: (pre, post) pairs; pre may be ``in``.
        num_classes: classes.
        activation_name: key of `ACTIVATIONS`.
        loss_name: key of `LOSSES`.
        readout: whether scores are a linear readout of ``out``; else the activity itself.
        feedback_strength: factor of what a layer receives from the layers above it.
    """

    connections: tuple[tuple[str, str], ...]
    num_classes: int
    activation_name: str
    loss_name: str
    readout: bool
    feedback_strength: float

    @property
    @abstractmethod
    def linear_drive(self) -> bool:
        """Whether `recurrent_drive` is linear in the activities."""

    @property
    @abstractmethod
    def unit_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of the units of each layer, from the input up."""

    @abstractmethod
    def connection(self, pre: str, post: str) -> tuple[nn.Module, tuple[int, ...]]:
        """The module that holds a connection's parameters, and the shape of its input without batch."""

    @abstractmethod
    def input_drive(self, params: Params, inputs: Array) -> State:
        """Input connections and all biases, per layer."""

    @abstractmethod
    def connection_drive(self, params: Params, pre: str, post: str, activity: State) -> Array:
        """What the connection from layer `pre` drives layer `post` with, without bias, (..., *units)."""

    def recurrent_drive(self, params: Params, layer: str, activity: State) -> Array:
        """Sum over the connections into `layer` from layers, at least one, without biases, (..., *units).

        What comes from above is multiplied by `feedback_strength`. Feedback of a convolutional layer reads
        the activity of `layer` itself, too.
        """
        terms = []
        for pre, post in self.edges:
            if post == layer:
                term = self.connection_drive(params, pre, post, activity)
                is_weighed = self._is_above(pre, post) and self.feedback_strength != 1
                terms.append(self.feedback_strength * term if is_weighed else term)
        return sum(terms[1:], start=terms[0])

    @property
    def layers(self) -> tuple[str, ...]:
        """Layer names from the input up."""
        return tuple(self.unit_shapes)

    @property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """Connections between layers as (pre, post)."""
        return tuple(pair for pair in self.connections if pair[0] != "in")

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Feedback connections with a forward partner, as (feedback, forward) parameter names."""
        names = self.connections
        return tuple(
            (f"{pre}-{post}", f"{post}-{pre}")
            for pre, post in names
            if self._is_above(pre, post) and (post, pre) in names
        )

    def init(self, key: Array) -> Gradient:
        """Fresh real parameters: connection or ``readout`` -> kernel and bias."""
        plan = {f"{pre}-{post}": self.connection(pre, post) for pre, post in self.connections}
        if self.readout:
            readout = DenseConnection(self.num_classes, use_bias=True)
            plan["readout"] = readout, (self._out_size,)

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
        return {name: jnp.zeros((batch, *shape), inputs.dtype) for name, shape in self.unit_shapes.items()}

    def activation(self, state: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """σ, elementwise."""
        return ACTIVATIONS[self.activation_name](state)

    def output(
        self, params: Params, out_activity: Inexact[Array, "... out"]
    ) -> Inexact[Array, "... classes"]:
        """Class scores: R r_out + c, or r_out itself without readout; r_out flattened."""
        leading = out_activity.shape[: out_activity.ndim - len(self.unit_shapes["out"])]
        flat = out_activity.reshape(*leading, self._out_size)
        if not self.readout:
            return flat
        weights = params["readout"]
        scores = apply_real(partial(project, weights["kernel"]), flat)
        return scores + weights["bias"].astype(scores.dtype)

    def loss(
        self, params: Params, out_activity: Float[Array, "... out"], targets: Float[Array, "... classes"]
    ) -> Float[Array, "..."]:
        """Loss per example."""
        return LOSSES[self.loss_name].value(self.output(params, out_activity), targets)

    def loss_gradient(
        self, params: Params, out_activity: Inexact[Array, "... out"], targets: Float[Array, "... classes"]
    ) -> Inexact[Array, "... out"]:
        """dL/dr_out per example, holomorphic in r_out."""
        by_output = LOSSES[self.loss_name].derivative(self.output(params, out_activity), targets)
        if self.readout:
            by_output = apply_real(partial(project, params["readout"]["kernel"].T), by_output)
        return by_output.reshape(out_activity.shape)

    @property
    def _out_size(self) -> int:
        return math.prod(self.unit_shapes["out"])

    def _is_above(self, pre: str, post: str) -> bool:
        return pre != post and not self._is_forward(pre, post)

    def _is_forward(self, pre: str, post: str) -> bool:
        order = ("in", *self.layers)
        return order.index(pre) < order.index(post)
