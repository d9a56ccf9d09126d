"""Whether components of the user's own are what a network needs of them."""

import jax
import jax.numpy as jnp

from hepcli.code import defined_at
from hepcli.config import Config
from hepcli.errors import CodeError
from hepcli.networks import Network, derives_its_value, drives_linearly, leads_back, looks_holomorphic
from hepcli.settings import ACTIVATIONS, NOT_HOLOMORPHIC


def check_own_activations(config: Config) -> None:
    """Check what the user's own activations return, and find out which are not holomorphic.

    Raises:
        CodeError: one changes the shape or the type of what it is given.
    """
    for name in filter(ACTIVATIONS.is_own, dict.fromkeys(config.network.activations.values())):
        function = ACTIVATIONS[name]
        given = jax.eval_shape(lambda: jnp.zeros((2, 3), jnp.float32))
        found = jax.eval_shape(function, given)
        if (getattr(found, "shape", None), getattr(found, "dtype", None)) != (given.shape, given.dtype):
            raise CodeError(
                f"{defined_at(function)}: activation {name} returns {found} for {given}.",
                "It acts on each element: return an array of the same shape and type.",
            )
        if not looks_holomorphic(function):
            NOT_HOLOMORPHIC.add(name)


def check_own_network(network: Network) -> None:
    """Check that own kinds of layers are linear where they say so, and an own loss has its derivative.

    Linear ones must lead back by the transpose, too: angles and ties of kernels mean nothing without.

    Raises:
        CodeError: one is not, does not or has not.
    """
    loss = network.own_loss
    if loss is not None and not derives_its_value(loss, network.num_classes):
        raise CodeError(
            f"{defined_at(loss.derivative)}: the derivative of loss {network.loss_name} is not that of its "
            "value.",
            "Correct one of the two: learning follows the derivative, and what is reported is the value.",
        )
    by_name = {connection.name: connection for connection in network.connections}
    for connection in network.of_own_kind:
        if not connection.kind.is_linear(connection):
            continue
        if not drives_linearly(connection):
            raise CodeError(
                f"layer kind {connection.layer.kind}: connection {connection.name} is not linear in the "
                "activities, although is_linear says that it is.",
                "Correct one of the two; estimators take short cuts where a drive is linear.",
            )
        if connection.partner and not leads_back(connection, by_name[connection.partner]):
            raise CodeError(
                f"layer kind {connection.layer.kind}: with the kernel of {connection.partner}, "
                f"{connection.name} is not its transpose.",
                "Kernels with two axes are transposed for feedback, others are not: give `down` a kernel "
                "(above, below), or keep the axes in another number.",
            )
