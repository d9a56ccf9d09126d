"""Layers of images: a convolution and a softmax pooling upwards, their derivative downwards."""

from typing import TYPE_CHECKING, cast

import flax.linen as nn
from jax import Array

from hepcli.networks._convolution import ConvWeights, bottom_up, top_down
from hepcli.settings import ConvLayer, Shape

if TYPE_CHECKING:
    from hepcli.networks._network import Connection


class Conv:
    """pool(W ∗ r) upwards, and ∂/∂r ⟨pool(B ∗ r), r_above⟩ downwards. Source: METHOD §2."""

    def is_linear(self, connection: "Connection") -> bool:
        """Without pooling."""
        return not cast(ConvLayer, connection.layer).is_pooled

    def module(self, connection: "Connection") -> tuple[nn.Module, Shape]:
        """A kernel on the image below, of the same shape either way."""
        return ConvWeights(cast(ConvLayer, connection.layer), connection.has_bias), connection.below

    def up(self, connection: "Connection", kernel: Array, below: Array) -> Array:
        """Drive of the layer above."""
        return bottom_up(cast(ConvLayer, connection.layer), kernel, below)

    def down(self, connection: "Connection", kernel: Array, below: Array, above: Array) -> Array:
        """Drive of the layer below."""
        return top_down(cast(ConvLayer, connection.layer), kernel, below, above)


CONV = Conv()
