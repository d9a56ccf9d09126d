"""Dense layers: every unit is connected to every unit, images flattened."""

import math
from functools import partial
from typing import TYPE_CHECKING

import flax.linen as nn
from jax import Array
from jaxtyping import Float

from hepcli.networks._linear import apply_real, project
from hepcli.settings import Shape

if TYPE_CHECKING:
    from hepcli.networks._network import Connection


class DenseWeights(nn.Module):
    """A kernel (pre, post), LeCun-normal, and for forward connections a bias (post,), zero."""

    units: int
    use_bias: bool

    @nn.compact
    def __call__(self, pre: Float[Array, "... pre"]) -> Float[Array, "... post"]:
        """kernelᵀ pre + bias."""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (pre.shape[-1], self.units))
        post = pre @ kernel
        return post + self.param("bias", nn.initializers.zeros, (self.units,)) if self.use_bias else post


class Dense:
    """W r, with a kernel (pre, post) either way."""

    is_linear = True

    def module(self, connection: "Connection") -> tuple[nn.Module, Shape]:
        """A kernel from the flattened source to the flattened target."""
        pre, post = connection.below, connection.above
        if not connection.is_forward:
            pre, post = post, pre
        return DenseWeights(math.prod(post), connection.is_forward), (math.prod(pre),)

    def up(self, connection: "Connection", kernel: Array, below: Array) -> Array:
        """Drive of the layer above."""
        return _between(kernel, below, connection.below, connection.above)

    def down(self, connection: "Connection", kernel: Array, below: Array, above: Array) -> Array:
        """Drive of the layer below."""
        return _between(kernel, above, connection.above, connection.below)


def _between(kernel: Array, activity: Array, source: Shape, target: Shape) -> Array:
    leading = activity.shape[: activity.ndim - len(source)]
    driven = apply_real(partial(project, kernel), activity.reshape(*leading, -1))
    return driven.reshape(*leading, *target)


DENSE = Dense()
