"""Dense layers: every unit is connected to every unit, images flattened."""

import math
from functools import partial

import flax.linen as nn
from jax import Array
from jaxtyping import Float

from hepcli.networks._connection import Connection
from hepcli.networks._linear import apply_real, project, scaled
from hepcli.settings import Shape


class DenseWeights(nn.Module):
    """A kernel (pre, post), LeCun-normal times a gain, and perhaps a bias (post,), zero."""

    units: int
    use_bias: bool
    gain: float = 1.0

    @nn.compact
    def __call__(self, pre: Float[Array, "... pre"]) -> Float[Array, "... post"]:
        """kernelᵀ pre + bias."""
        init = scaled(nn.initializers.lecun_normal(), self.gain)
        kernel = self.param("kernel", init, (pre.shape[-1], self.units))
        post = pre @ kernel
        return post + self.param("bias", nn.initializers.zeros, (self.units,)) if self.use_bias else post


class Dense:
    """W r, with a kernel (pre, post) either way."""

    def is_linear(self, connection: Connection) -> bool:
        """Always."""
        return True

    def module(self, connection: Connection) -> tuple[nn.Module, Shape]:
        """A kernel from the flattened source to the flattened target."""
        pre, post = connection.below, connection.above
        if not connection.is_forward:
            pre, post = post, pre
        weights = DenseWeights(math.prod(post), connection.has_bias, connection.layer.gain)
        return weights, (math.prod(pre),)

    def up(self, connection: Connection, kernel: Array, below: Array) -> Array:
        """Drive of the layer above."""
        return _between(kernel, below, connection.below, connection.above)

    def down(self, connection: Connection, kernel: Array, below: Array, above: Array) -> Array:
        """Drive of the layer below."""
        return _between(kernel, above, connection.above, connection.below)


def _between(kernel: Array, activity: Array, source: Shape, target: Shape) -> Array:
    leading = activity.shape[: activity.ndim - len(source)]
    driven = apply_real(partial(project, kernel), activity.reshape(*leading, -1))
    return driven.reshape(*leading, *target)


DENSE = Dense()
