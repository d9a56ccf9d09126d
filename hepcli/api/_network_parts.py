"""Activations, losses and kinds of layers of your own."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import Array

from hepcli import code
from hepcli.api._registration import Part, check, check_members, check_name, check_takes, decorator, shape_of
from hepcli.code import defined_at
from hepcli.errors import CodeError
from hepcli.networks import Connection, LayerKind, Loss
from hepcli.settings import ACTIVATIONS, LAYER_KINDS, LAYERS, LOSSES, Shape

_METHODS = {
    "is_linear": ("connection",),
    "module": ("connection",),
    "up": ("connection", "kernel", "below"),
    "down": ("connection", "kernel", "below", "above"),
}
_MODULE = "Return a Flax module with a kernel, and the shape of what it takes."
_KIND = "See help(hepcli.register_layer_kind)."


def register_activation(name: str) -> Callable[[Part], Part]:
    """Register an activation, for `network.activation`.

    The decorated function takes an array, real or complex, of any shape, and acts on each element. If it is
    not holomorphic, as small circles around the real axis show, nudges must be real (METHOD §1).

    Args:
        name: lower-case letters, digits and _.

    Raises:
        CodeError: the name is invalid or taken, or what is registered cannot be called as described.

    Example:
        >>> import jax.numpy as jnp
        >>> @hepcli.register_activation("sine")
        ... def sine(z):
        ...     return jnp.sin(z)
        >>> model = hepcli.init_model("quickstart", {"network.activation": "sine"})
        >>> model.network.activation("l1", jnp.zeros(2)).tolist()
        [0.0, 0.0]
    """
    check_name("register_activation", name)
    return decorator(ACTIVATIONS, name, "z")


def register_loss(name: str, loss: Loss) -> None:
    """Register a loss, for `network.loss`.

    Args:
        name: lower-case letters, digits and _.
        loss: `hepcli.networks.Loss(value, derivative)` of output (…, classes), real or complex, and targets,
            real, that broadcast against it; the derivative with respect to the output must be holomorphic in
            it where nudges are complex.

    Raises:
        CodeError: the name is invalid or taken, or `loss` is not such a Loss.

    Example:
        A squared error that counts the first class twice.

        >>> import jax.numpy as jnp
        >>> from hepcli.networks import Loss
        >>> def weights(targets):
        ...     return 1 + targets[..., :1]
        >>> def value(output, targets):
        ...     return jnp.sum(weights(targets) * (output - targets) ** 2, -1) / 2
        >>> def derivative(output, targets):
        ...     return weights(targets) * (output - targets)
        >>> hepcli.register_loss("weighted", Loss(value, derivative))
        >>> model = hepcli.init_model("quickstart", {"network.loss": "weighted"})
    """
    check_name("register_loss", name)
    check(isinstance(loss, Loss) and all(map(callable, loss)), f"loss {name}", "a hepcli.networks.Loss", loss)
    for part, function in loss._asdict().items():
        check_takes(f"the {part} of loss {name}", function, "output", "targets")
    code.register(LOSSES, name, _checked_loss(name, loss))


def register_layer_kind(name: str, settings: type, kind: LayerKind) -> None:
    """Register a kind of layer, for `network.layers.NAME.kind`.

    Args:
        name: lower-case letters, digits and _.
        settings: a frozen dataclass of the keys that [network.layers] may set for such a layer, with a field
            `kind` and the methods and class attributes of `hepcli.settings.DenseLayer`.
        kind: what its connections do.

    Raises:
        CodeError: the name is invalid or taken, or something is missing or cannot be called as described.

    Example:
        Units that receive from a tenth of the pixels, or units, below them.

        >>> from dataclasses import dataclass
        >>> import numpy as np
        >>> from hepcli.settings import LAYER_KINDS, DenseLayer
        >>> dense = LAYER_KINDS["dense"]
        >>> @dataclass(frozen=True, kw_only=True)
        ... class SparseLayer(DenseLayer):
        ...     kind: str = "sparse"
        ...     density: float = 0.1
        >>> class Sparse:
        ...     is_linear, module = dense.is_linear, dense.module
        ...     def mask(self, connection, kernel):
        ...         mask = np.random.default_rng(0).random(max(kernel.shape, kernel.shape[::-1]))
        ...         mask = mask < connection.layer.density
        ...         return mask if mask.shape == kernel.shape else mask.T
        ...     def up(self, connection, kernel, below):
        ...         return dense.up(connection, kernel * self.mask(connection, kernel), below)
        ...     def down(self, connection, kernel, below, above):
        ...         return dense.down(connection, kernel * self.mask(connection, kernel), below, above)
        >>> hepcli.register_layer_kind("sparse", SparseLayer, Sparse())
        >>> small = {"network.layers.l1.units": 16, "network.layers.l2.units": 12}
        >>> model = hepcli.init_model("quickstart", small | {"network.layers.l1.kind": "sparse"})
        >>> images, labels, *_ = model.split("train")
        >>> gradient = hepcli.estimate(model, images[:8], labels[:8]).gradient["in-l1"]["kernel"]
        >>> bool(0.8 < np.mean(gradient == 0) < 0.95)
        True
    """
    check_name("register_layer_kind", name)
    check(isinstance(settings, type), f"the settings of layer kind {name}", "a class", settings)
    check(not isinstance(kind, type), f"layer kind {name}", "an object; call the class", kind)
    wanted = ("is_image", "size_key", "shape", "multiply_adds", "misfits", "__dataclass_fields__")
    check_members(f"layer kind {name}", settings, wanted, _KIND)
    check_members(f"layer kind {name}", kind, ("is_linear", "module", "up", "down"), _KIND)
    for method, arguments in _METHODS.items():
        check_takes(f"{method} of layer kind {name}", getattr(kind, method), *arguments)
    if settings.__hash__ is None:
        raise CodeError(f"layer kind {name}: its settings cannot be hashed.", "Use @dataclass(frozen=True).")
    if "kind" not in {own.name for own in dataclasses.fields(settings)}:
        raise CodeError(f"layer kind {name}: its settings have no field kind.", f'Add kind: str = "{name}".')
    code.register(LAYER_KINDS, name, _CheckedKind(kind, name))
    code.register(LAYERS, name, settings)


def _checked_loss(name: str, loss: Loss) -> Loss:
    """The loss, refused where its value or its derivative has another shape than it must."""

    @functools.wraps(loss.value)
    def value(output: Any, targets: Any) -> Any:
        result = loss.value(output, targets)
        _check_shape(f"the value of loss {name}", loss.value, result, output.shape[:-1])
        return result

    @functools.wraps(loss.derivative)
    def derivative(output: Any, targets: Any) -> Any:
        result = loss.derivative(output, targets)
        _check_shape(f"the derivative of loss {name}", loss.derivative, result, output.shape)
        return result

    return Loss(value, derivative)


@dataclasses.dataclass(frozen=True)
class _CheckedKind:
    """A kind of layers, refused where it drives a layer with another shape than it has.

    Attributes:
        kind: what it does.
        name: what it is called.
    """

    kind: LayerKind
    name: str

    def is_linear(self, connection: Connection) -> bool:
        """As the kind says."""
        return self.kind.is_linear(connection)

    def module(self, connection: Connection) -> tuple[Any, Shape]:
        """As the kind says."""
        made, name = self.kind.module(connection), connection.name
        if not isinstance(made, tuple) or len(made) != 2:
            raise CodeError(
                f"layer kind {self.name}: module of connection {name} returned {made!r}.", _MODULE
            )
        try:
            hash(connection.layer)
        except TypeError as error:
            raise CodeError(
                f"layer kind {self.name}: the settings of connection {name} are not hashable: {error}.",
                "Use tuples instead of lists.",
            ) from error
        module, shape = made
        like = jax.eval_shape(lambda: module.init(jax.random.key(0), jax.numpy.zeros((1, *shape))))
        if "kernel" not in like.get("params", {}):
            raise CodeError(
                f"layer kind {self.name}: the module of connection {name} has no kernel.", _MODULE
            )
        return made

    def up(self, connection: Connection, kernel: Array, below: Array) -> Array:
        """Drive of the layer above."""
        driven = self.kind.up(connection, kernel, below)
        self._check("up", connection, driven, below, connection.below, connection.above)
        return driven

    def down(self, connection: Connection, kernel: Array, below: Array, above: Array) -> Array:
        """Drive of the layer below."""
        driven = self.kind.down(connection, kernel, below, above)
        self._check("down", connection, driven, above, connection.above, connection.below)
        return driven

    def _check(
        self, way: str, connection: Connection, driven: Array, activity: Array, source: Shape, target: Shape
    ) -> None:
        wanted = (*activity.shape[: activity.ndim - len(source)], *target)
        if (shape := shape_of(driven)) != wanted:
            raise CodeError(
                f"layer kind {self.name}: {way} of connection {connection.name} returned shape "
                f"{shape}, not {wanted}.",
                _KIND,
            )


def _check_shape(what: str, function: Callable[..., Any], result: Any, wanted: tuple[int, ...]) -> None:
    if (shape := shape_of(result)) != wanted:
        raise CodeError(
            f"{defined_at(function)}: {what} has shape {shape}, not {wanted}.",
            "The value of a loss is one number for each example, its derivative one for each output.",
        )
