"""Dense networks over any directed graph of named layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Inexact

from hepcli.engine import Gradient, Params, State
from hepcli.networks._activations import ACTIVATIONS
from hepcli.networks._linear import apply_real
from hepcli.networks._losses import LOSSES


class Connection(nn.Module):
    """A kernel (pre, post), LeCun-normal, and for forward connections a bias (post,), zero."""

    units: int
    use_bias: bool

    @nn.compact
    def __call__(self, pre: Float[Array, "... pre"]) -> Float[Array, "... post"]:
        """kernelᵀ pre + bias."""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (pre.shape[-1], self.units))
        post = pre @ kernel
        return post + self.param("bias", nn.initializers.zeros, (self.units,)) if self.use_bias else post


@dataclass(frozen=True)
class DenseNetwork:
    """Dense layers joined by any directed graph of connections (METHOD §2).

    Layers are listed from the input up. A connection is forward, and carries a bias, when its source is
    the input or is listed before its target; else it is feedback.

    Attributes:
        units: layer name -> number of units, in order.
        connections: (pre, post) pairs; pre may be ``in``.
        input_size: values per input example.
        num_classes: classes.
        activation_name: key of `ACTIVATIONS`.
        loss_name: key of `LOSSES`.
        readout: whether scores are a linear readout of ``out``; else the activity itself.
    """

    units: tuple[tuple[str, int], ...]
    connections: tuple[tuple[str, str], ...]
    input_size: int
    num_classes: int
    activation_name: str = "sigmoid"
    loss_name: str = "cross_entropy"
    readout: bool = True

    @property
    def layers(self) -> tuple[str, ...]:
        """Layer names from the input up."""
        return tuple(name for name, _ in self.units)

    @property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """Connections between layers as (pre, post)."""
        return tuple(pair for pair in self.connections if pair[0] != "in")

    @property
    def linear_drive(self) -> bool:
        """A dense layer's drive is linear in the activities."""
        return True

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Feedback connections with a forward partner, as (feedback, forward) parameter names."""
        names = self.connections
        return tuple(
            (f"{pre}-{post}", f"{post}-{pre}")
            for pre, post in names
            if not self._is_forward(pre, post) and pre != post and (post, pre) in names
        )

    def init(self, key: Array) -> Gradient:
        """Fresh real parameters: connection or ``readout`` -> kernel and bias."""
        sizes = dict(self.units) | {"in": self.input_size}
        plan = {
            f"{pre}-{post}": (sizes[pre], Connection(sizes[post], self._is_forward(pre, post)))
            for pre, post in self.connections
        }
        if self.readout:
            plan["readout"] = (sizes["out"], Connection(self.num_classes, use_bias=True))

        def init_all(key: Array) -> Gradient:
            keys = jax.random.split(key, len(plan))
            return {
                name: module.init(subkey, jnp.zeros((1, pre)))["params"]
                for subkey, (name, (pre, module)) in zip(keys, plan.items(), strict=True)
            }

        params: Gradient = jax.jit(init_all)(key)  # eagerly, Linen's first init takes seconds
        return params

    def zero_state(self, inputs: Float[Array, "batch ..."]) -> State:
        """Zero pre-activations (batch, units), in the inputs' precision."""
        return {name: jnp.zeros((inputs.shape[0], size), inputs.dtype) for name, size in self.units}

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

    def recurrent_drive(self, params: Params, layer: str, activity: State) -> Array:
        """Σ_pre W r_pre over the layers that project to `layer`, at least one, (..., units)."""
        terms = [
            apply_real(partial(_project, params[f"{pre}-{post}"]["kernel"]), activity[pre])
            for pre, post in self.edges
            if post == layer
        ]
        return sum(terms[1:], start=terms[0])

    def activation(self, state: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """σ, elementwise."""
        return ACTIVATIONS[self.activation_name](state)

    def output(
        self, params: Params, out_activity: Inexact[Array, "... out"]
    ) -> Inexact[Array, "... classes"]:
        """Class scores: R r_out + c, or r_out itself without readout."""
        if not self.readout:
            return out_activity
        weights = params["readout"]
        scores = apply_real(partial(_project, weights["kernel"]), out_activity)
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
        if not self.readout:
            return by_output
        return apply_real(partial(_project, params["readout"]["kernel"].T), by_output)

    def _is_forward(self, pre: str, post: str) -> bool:
        order = ("in", *self.layers)
        return order.index(pre) < order.index(post)


def _project(kernel: Float[Array, "pre post"], pre: Float[Array, "... pre"]) -> Float[Array, "... post"]:
    return pre @ kernel


def rotate_feedback(params: Params, pairs: Sequence[tuple[str, str]], angle_deg: float) -> Gradient:
    """Mix each feedback kernel with its forward partner: B ← sin α · B + cos α · Wᵀ.

    Args:
        params: parameters with kernels (pre, post).
        pairs: (feedback, forward) names.
        angle_deg: α in degrees; 0 starts symmetric, 90 independent.

    Returns:
        New parameters; all else unchanged.

    Source: paper, §4.2 (METHOD §2).
    """
    angle_rad = jnp.deg2rad(angle_deg)
    mixed = {name: dict(weights) for name, weights in params.items()}
    for feedback, forward in pairs:
        own, partner = params[feedback]["kernel"], params[forward]["kernel"].T
        mixed[feedback]["kernel"] = jnp.sin(angle_rad) * own + jnp.cos(angle_rad) * partner
    return mixed


def weight_angle_deg(params: Params, pairs: Sequence[tuple[str, str]]) -> Mapping[str, Array]:
    """Angle between forward kernels and the transposes of their feedback partners.

    Args:
        params: real parameters.
        pairs: (feedback, forward) names; empty when the network has none.

    Returns:
        Degrees, per pair under its forward name and over all pairs under ``total``; empty without pairs.

    Source: paper, §4.2 (METHOD §5).
    """
    if not pairs:
        return {}
    parts = {
        forward: (
            jnp.sum(params[forward]["kernel"] * params[feedback]["kernel"].T),
            jnp.sum(params[forward]["kernel"] ** 2),
            jnp.sum(params[feedback]["kernel"] ** 2),
        )
        for feedback, forward in pairs
    }
    parts["total"] = tuple(sum(column) for column in zip(*parts.values(), strict=True))
    return {
        name: jnp.rad2deg(jnp.arccos(jnp.clip(inner / jnp.sqrt(ahead * back), -1.0, 1.0)))
        for name, (inner, ahead, back) in parts.items()
    }
