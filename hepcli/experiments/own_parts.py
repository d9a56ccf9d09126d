"""Whether components of the user's own are what a network needs of them."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

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
        _check_types(name, function, ["float32", "float64", config.relaxation.free_precision])
        if looks_holomorphic(function):
            _check_types(name, function, ["complex64", "complex128"])
        else:
            NOT_HOLOMORPHIC.add(name)


def _check_types(name: str, function: Callable[[Array], Array], dtypes: Sequence[str]) -> None:
    """Check that an activation returns what it is given: training is in float32, measures are in float64."""
    for dtype in dtypes:
        with jax.enable_x64(dtype in ("float64", "complex128")):
            given = jax.eval_shape(lambda: jnp.zeros((2, 3), dtype))  # noqa: B023
            found = jax.eval_shape(function, given)
        if _described(found) != _described(given):
            raise CodeError(
                f"{defined_at(function)}: activation {name} returns {_described(found)} for "
                f"{_described(given)}.",
                "It acts on each element: return an array of the same shape and type.",
            )


def _described(result: object) -> str:
    """Such as float32[2,3]; of anything but an array its type."""
    if not hasattr(result, "shape") or not hasattr(result, "dtype"):
        return f"a {type(result).__name__}"
    return f"{result.dtype}[{','.join(map(str, result.shape))}]"


def check_own_network(network: Network) -> None:
    """Check that own kinds of layers are linear where they say so, and an own loss has its derivative.

    Linear ones must lead back by the transpose, too: angles and ties of kernels mean nothing without.

    Raises:
        CodeError: a kind is not linear or does not lead back, or the loss has another derivative.
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
