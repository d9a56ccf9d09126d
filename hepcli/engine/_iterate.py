"""The loop behind every phase and every linear solve: every example runs as long as it needs."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Int

from hepcli.engine._anderson import Anderson
from hepcli.engine._norms import beside, example_norm

T = TypeVar("T")
Context = Any
"""What examples bring along while they move, such as their input: a tree of arrays, examples in front."""
Pass = Callable[[T, int | Array], T]
"""One pass over a tree of arrays with the examples in front, given how many went before it."""
Prepare = Callable[[Context], Pass[T]]

Loop = tuple[Any, Array, Array, Array]
"""What a scheme carries, which examples move, their passes, and those of the loop."""

_SHARES = (1.0, 0.4, 0.125)  # of the batch as it shrinks; every size is compiled by itself


class Scheme(Protocol):
    """What becomes of the passes: plain iteration, or mixing of the last states."""

    def start(self, value: Any) -> Any:
        """Before the first pass."""

    def value(self, carry: Any, like: Any) -> Any:
        """The state that was come to, a tree like `like`."""

    def advance(self, step: Pass[Any], carry: Any, like: Any, count: int | Array) -> tuple[Any, Array]:
        """One pass, and how far it moved each example."""

    def keep(self, moving: Array, new: Any, old: Any) -> Any:
        """`new`, but with the state of `old` for the examples that do not move; they never will again."""


class Plain:
    """Every pass starts where the last one ended."""

    def start(self, value: T) -> T:
        """The state."""
        return value

    def value(self, carry: T, like: T) -> T:
        """The state."""
        return carry

    def advance(self, step: Pass[T], carry: T, like: T, count: int | Array) -> tuple[T, Array]:
        """One pass."""
        new = step(carry, count)
        return new, example_norm(jax.tree.map(jnp.subtract, new, carry), 1)

    def keep(self, moving: Array, new: T, old: T) -> T:
        """The new state where examples move."""
        kept: T = jax.tree.map(lambda n, o: jnp.where(beside(moving, n), n, o), new, old)
        return kept


def iterate(
    prepare: Prepare[T], context: Context, start: T, max_passes: int, tolerance: float, memory: int = 0
) -> tuple[T, Int[Array, " batch"]]:
    """Move every example until it rests.

    With a tolerance each example comes to what it would come to alone, whatever the others of the batch do;
    those that rest cost nothing more once the batch shrinks, which it does when two fifths of it are left to
    move, and when an eighth is.

    An example that moves less than `tolerance` is not for that at a fixed point: it may be slow. One that
    alternates runs all `max_passes`; one that is no longer finite stops.

    Args:
        prepare: context of some examples -> a pass over them. What it computes before the first pass is
            computed once.
        context: of all examples.
        start: any tree of arrays.
        max_passes: most passes.
        tolerance: an example stops once a pass moved it less than this; 0 runs all `max_passes`, and only
            then can the loop, without mixing, be differentiated in reverse mode.
        memory: of Anderson mixing; 0 for none.

    Returns:
        The tree at the end, and the passes of each example (int32).
    """
    scheme: Scheme = Anderson(memory) if memory else Plain()
    first = scheme.start(start)
    examples = jax.tree.leaves(start)[0].shape[0]
    if tolerance == 0:
        step = prepare(context)
        end = jax.lax.fori_loop(
            0, max_passes, lambda count, carry: scheme.advance(step, carry, start, count)[0], first
        )
        return scheme.value(end, start), jnp.full(examples, max_passes, jnp.int32)
    end, passes = _shrinking(prepare, context, start, first, scheme, max_passes, tolerance)
    return scheme.value(end, start), passes


def _shrinking(
    prepare: Prepare[T],
    context: Context,
    like: T,
    first: Any,
    scheme: Scheme,
    max_passes: int,
    tolerance: float,
) -> tuple[Any, Array]:
    """Move the whole batch until few enough are left to move, then those, and so on."""
    examples = jax.tree.leaves(like)[0].shape[0]
    everything = first, jnp.ones(examples, jnp.bool_), jnp.zeros(examples, jnp.int32)
    count = jnp.int32(0)
    for size, few in pairwise((*_sizes(examples), 0)):
        rows = None if size == examples else jnp.nonzero(everything[1], size=size, fill_value=examples)[0]
        carry, moving, passes = _take(everything, rows)
        if rows is not None:
            moving = moving & (rows < examples)  # the others only fill up
        step, own_like = prepare(_take(context, rows)), _take(like, rows)

        def go(loop: Loop, step: Pass[T] = step, like: T = own_like) -> Loop:
            carry, moving, passes, count = loop
            new, moved = scheme.advance(step, carry, like, count)
            new = scheme.keep(moving, new, carry)
            # An example that turned NaN never rests and must not run on.
            return new, moving & (moved >= tolerance), jnp.where(moving, count + 1, passes), count + 1

        def unfinished(loop: Loop, few: int = few) -> Array:
            return (loop[3] < max_passes) & (loop[1].sum() > few)

        *own, count = jax.lax.while_loop(unfinished, go, (carry, moving, passes, count))
        everything = _put(everything, tuple(own), rows)
    return everything[0], everything[2]


def _sizes(examples: int) -> list[int]:
    """Of the batch as it shrinks, the whole one first."""
    return sorted({math.ceil(share * examples) for share in _SHARES}, reverse=True)


def _take(tree: Any, rows: Array | None) -> Any:
    """Some examples; rows past the end repeat the last one."""
    if rows is None:
        return tree
    return jax.tree.map(lambda leaf: leaf.at[rows].get(mode="clip"), tree)


def _put(tree: Any, new: Any, rows: Array | None) -> Any:
    """The tree with some examples replaced; rows past the end are dropped."""
    if rows is None:
        return new
    return jax.tree.map(lambda leaf, own: leaf.at[rows].set(own, mode="drop"), tree, new)
