"""Layers of images: a convolution and a softmax pooling upwards, their derivative downwards."""

from typing import cast

import flax.linen as nn
from jax import Array

from hepcli.networks._connection import Connection
from hepcli.networks._convolution import ConvWeights, bottom_up, top_down
from hepcli.settings import ConvLayer, Shape


class Conv:
    """pool(W ∗ r) upwards, and ∂/∂r ⟨pool(B ∗ r), r_above⟩ downwards. Source: METHOD §2."""

    def is_linear(self, connection: Connection) -> bool:
        """Without pooling."""
        return not _layer(connection).is_pooled

    def module(self, connection: Connection) -> tuple[nn.Module, Shape]:
        """A kernel on the image below, of the same shape either way."""
        return ConvWeights(_layer(connection), connection.has_bias), connection.below

    def up(self, connection: Connection, kernel: Array, below: Array) -> Array:
        """Drive of the layer above."""
        return bottom_up(_layer(connection), kernel, below)

    def down(self, connection: Connection, kernel: Array, below: Array, above: Array) -> Array:
        """Drive of the layer below."""
        return top_down(_layer(connection), kernel, below, above)


def _layer(connection: Connection) -> ConvLayer:
    """Its settings, which are those of a convolution."""
    return cast(ConvLayer, connection.layer)


CONV = Conv()
