"""Connections, and what the kind of a layer makes of those between it and the layers below."""

from dataclasses import dataclass
from typing import Protocol

import flax.linen as nn
from jax import Array

from hepcli.engine import Params, State
from hepcli.networks._feedback import as_feedback
from hepcli.settings import LAYER_KINDS, LayerSettings, Shape


class LayerKind(Protocol):
    """What a connection does whose upper end is a layer of this kind.

    All functions are pure, take a real kernel, and real or complex activities with any leading axes. A
    feedback kernel begins as, is tied to and is compared with that of its forward partner: with two axes its
    transpose, with any other number the kernel itself. With it, `down` must be the transpose of `up` where
    they are linear.
    """

    def is_linear(self, connection: "Connection") -> bool:
        """Whether `up` and `down` are linear in the activities."""

    def module(self, connection: "Connection") -> tuple[nn.Module, Shape]:
        """What holds the connection's kernel and bias, and the shape of one example that initialises it."""

    def up(self, connection: "Connection", kernel: Array, below: Array) -> Array:
        """Drive of the layer above, without bias, (..., *above)."""

    def down(self, connection: "Connection", kernel: Array, below: Array, above: Array) -> Array:
        """Drive of the layer below, (..., *below); it may depend on the activity it drives."""


@dataclass(frozen=True)
class Connection:
    """A connection from one layer, or the input, to another.

    Attributes:
        pre: where it comes from; may be ``in``.
        post: what it drives.
        layer: what it does, as the settings of a layer that does it alone.
        below: shape of the units at its lower end.
        above: shape of the units at its upper end.
        is_forward: whether it leads up the order of layers.
        strength: factor of what it drives with.
        has_bias: whether it carries one.
        partner: of feedback, the forward connection between the same layers with a kernel of the same shape;
            None where there is none.
        is_tied: whether it uses the kernel of its partner, transposed where it is dense.
    """

    pre: str
    post: str
    layer: LayerSettings
    below: Shape
    above: Shape
    is_forward: bool
    strength: float = 1.0
    has_bias: bool = False
    partner: str | None = None
    is_tied: bool = False

    @property
    def name(self) -> str:
        """``pre-post``, the name of its parameters."""
        return f"{self.pre}-{self.post}"

    @property
    def kind(self) -> LayerKind:
        """What it does."""
        kind: LayerKind = LAYER_KINDS[self.layer.kind]
        return kind

    @property
    def multiply_adds(self) -> int:
        """Of driving one example once."""
        return self.layer.multiply_adds(self.below, self.above)

    def drive(self, params: Params, activity: State) -> Array:
        """What it drives `post` with, without bias, (..., *units); feedback may read `post` itself, too."""
        kind = self.kind
        if self.is_tied and self.partner is not None:
            kernel = as_feedback(params[self.partner]["kernel"])
        else:
            kernel = params[self.name]["kernel"]
        if self.is_forward:
            driven = kind.up(self, kernel, activity[self.pre])
        else:
            driven = kind.down(self, kernel, activity[self.post], activity[self.pre])
        return driven if self.strength == 1 else self.strength * driven
