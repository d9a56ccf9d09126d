"""The loop behind every phase and every linear solve: every example runs as long as it needs."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from hepcli.engine._anderson import Anderson
from hepcli.engine._norms import all_finite, beside, example_norm

T = TypeVar("T")
Context = Any
"""What examples bring along while they move, such as their input: a tree of arrays, examples in front."""
Pass = Callable[[T, int | Array], T]
"""One pass over a tree of arrays with the examples in front, given how many went before it."""
Prepare = Callable[[Context], Pass[T]]

Part = tuple[Any, Array, Array]
"""Of some examples: what a scheme carries, which of them move, and the passes of each."""
Loop = tuple[Any, Array, Array, Array]
"""The same, and the passes of the loop."""

_SHARES = (1.0, 0.4, 0.125)  # of the batch as it shrinks; every size is compiled by itself
_LONGEST_CHECK = 12  # passes over a disturbance
_GONE = 0.03  # what is left of one that has died out
_CLEAR = 0.9  # what a pass leaves of one that is clearly dying out
_WINDOW, _SLOW = 3, 0.99  # the last passes of the longest check, and what each leaves at most if it passes


class Scheme(Protocol):
    """What becomes of the passes: plain iteration, or mixing of the last states."""

    def advance(self, step: Pass[Any], carry: Any, like: Any, count: int | Array) -> tuple[Any, Array]:
        """One pass, and how far it moved each example."""

    def keep(self, moving: Array, new: Any, old: Any) -> Any:
        """`new`, but with the state of `old` for the examples that do not move; they never will again."""


class Plain:
    """Every pass starts where the last one ended."""

    def advance(self, step: Pass[T], carry: T, like: T, count: int | Array) -> tuple[T, Array]:
        """One pass."""
        new = step(carry, count)
        return new, example_norm(jax.tree.map(jnp.subtract, new, carry), 1)

    def keep(self, moving: Array, new: T, old: T) -> T:
        """The new state where examples move."""
        kept: T = jax.tree.map(lambda n, o: jnp.where(beside(moving, n), n, o), new, old)
        return kept


class Decay:
    """Passes over a disturbance, which rests once little is left of it and it clearly dies out.

    It is carried as a tree of norm 1 at the start, with its norms before the last passes, the newest last.
    """

    def start(self, value: T) -> tuple[T, Float[Array, "batch passes"]]:
        """The disturbance."""
        size = example_norm(value, 1)
        return value, jnp.tile(size[:, None], (1, _WINDOW + 1))

    def has_grown(self, carry: tuple[T, Array]) -> Array:
        """Whether it has grown, or hardly shrunk, over the last passes."""
        sizes = carry[1]
        return ~(sizes[:, -1] < _SLOW**_WINDOW * sizes[:, 0])

    def advance(
        self, step: Pass[T], carry: tuple[T, Array], like: T, count: int | Array
    ) -> tuple[tuple[T, Array], Array]:
        """One pass, and what is left; infinitely much while it does not shrink clearly."""
        value, sizes = carry
        new = step(value, count)
        size = example_norm(new, 1)
        left = jnp.where(size < _CLEAR * sizes[:, -1], size, jnp.inf)
        return (new, jnp.column_stack([sizes[:, 1:], size])), left

    def keep(self, moving: Array, new: tuple[T, Array], old: tuple[T, Array]) -> tuple[T, Array]:
        """The new norms where examples move; nobody reads the rest of those that do not."""
        return new[0], jnp.where(moving[:, None], new[1], old[1])


def iterate(
    prepare: Prepare[T],
    context: Context,
    start: T,
    max_passes: int,
    tolerance: float | Array,
    memory: int = 0,
) -> tuple[T, Int[Array, " batch"]]:
    """Move every example until it rests.

    With a tolerance each example comes to what it would come to alone, whatever the others of the batch do;
    those that rest cost nothing more once the batch shrinks, which it does when two fifths of it are left to
    move, and when an eighth is.

    An example that moves less than `tolerance` need not be at a fixed point: it may just be slow. One that
    alternates runs all `max_passes`; one that is no longer finite stops.

    Mixing also finds fixed points that are unstable, where an error signal grows without bounds and no plain
    passes lead. What it comes to is kept only where it rests, given a tolerance, and a small disturbance dies
    out; the other examples run again from `start`, without mixing, and so come to what they come to without
    it. With a tolerance mixing has half of the passes, so that this is also for those that never came near
    enough to a fixed point to mix.

    Args:
        prepare: context of some examples -> a pass over them. What it computes before the first pass is
            computed once.
        context: of all examples.
        start: any tree of arrays.
        max_passes: most passes, with mixing and again without.
        tolerance: an example stops once a pass moved it less than this; the number 0 runs all `max_passes`,
            and only then can the loop, without mixing, be differentiated in reverse mode.
        memory: of Anderson mixing; 0 for none.

    Returns:
        The tree at the end, and the passes of each example, those of the check and the repetition included
        (int32).
    """
    examples = jax.tree.leaves(start)[0].shape[0]
    if memory:
        return _mixed(prepare, context, start, max_passes, tolerance, Anderson(memory))
    if not _stops(tolerance):
        step = prepare(context)
        end: T = jax.lax.fori_loop(0, max_passes, lambda count, value: step(value, count), start)
        return end, jnp.full(examples, max_passes, jnp.int32)
    everything = start, jnp.ones(examples, jnp.bool_), jnp.zeros(examples, jnp.int32)
    end, _, passes = _shrinking(prepare, context, start, Plain(), everything, max_passes, tolerance)
    return end, passes


def _stops(tolerance: float | Array) -> bool:
    """Whether examples stop at a tolerance; a traced one is above 0."""
    return isinstance(tolerance, Array) or tolerance > 0


def _mixed(
    prepare: Prepare[T],
    context: Context,
    start: T,
    max_passes: int,
    tolerance: float | Array,
    scheme: Anderson,
) -> tuple[T, Int[Array, " batch"]]:
    """Move every example with mixing, and again without where that does not lead to a stable fixed point."""
    examples = jax.tree.leaves(start)[0].shape[0]
    everyone, none = jnp.ones(examples, jnp.bool_), jnp.zeros(examples, jnp.int32)
    mixing = scheme.start(start), everyone, none
    most = -(-max_passes // 2) if _stops(tolerance) else max_passes
    carry, moving, passes = _shrinking(prepare, context, start, scheme, mixing, most, tolerance)
    end: T = scheme.value(carry, start)
    unsettled = moving if _stops(tolerance) else ~everyone

    def prepare_check(own: tuple[Context, T]) -> Pass[T]:
        step = prepare(own[0])
        push = jax.linearize(lambda state: step(state, 0), own[1])[1]
        return lambda disturbance, count: push(disturbance)

    # An example that is not finite has become so by plain passes.
    decay, stable = Decay(), ~unsettled & carry.has_mixed & all_finite(end, 1)
    checking = decay.start(scheme.disturbance(carry, start)), stable, none
    shrunk, unsure, more = _shrinking(
        prepare_check, (context, end), start, decay, checking, _LONGEST_CHECK, _GONE
    )
    unstable = unsure & decay.has_grown(shrunk)
    again = unsettled | (carry.has_mixed & unstable)
    starting = jax.tree.map(lambda s, e: jnp.where(beside(again, s), s, e), start, end), again, none
    end, _, last = _shrinking(prepare, context, start, Plain(), starting, max_passes, tolerance)
    return end, passes + more + last


def _shrinking(
    prepare: Prepare[T],
    context: Context,
    like: T,
    scheme: Scheme,
    everything: Part,
    max_passes: int,
    tolerance: float | Array,
) -> Part:
    """Move the whole batch until few enough are left to move, then those, and so on."""
    examples = everything[1].shape[0]
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
    return everything


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
