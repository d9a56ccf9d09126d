"""Kinds of layers: what the connections between a layer and those below it do.

To add a kind: one file here with a `LayerKind`, its settings in `hepcli/settings/layers.py`, and one line in
`hepcli/settings/parts.py`.
"""

from typing import TYPE_CHECKING, Protocol

import flax.linen as nn
from jax import Array

from hepcli.settings import Shape

if TYPE_CHECKING:
    from hepcli.networks._network import Connection


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
