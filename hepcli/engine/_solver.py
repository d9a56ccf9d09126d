"""The loop behind every phase and every linear solve, and what a solver brings to it."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from hepcli.engine._dynamics import Dynamics
from hepcli.engine._norms import example_norm
from hepcli.engine._types import State
from hepcli.settings import SOLVERS, RelaxationSettings

T = TypeVar("T")
Memory = Any
"""What a solver remembers from pass to pass: a tree of arrays, empty for most."""


class Solver(Protocol):
    """How a pass moves a state towards the fixed point of dynamics; it owns its parameters.

    To add one: one file in `engine/_solvers` with a function from `RelaxationSettings` to a solver, and one
    line in `hepcli/settings/parts.py`.
    """

    def num_passes(self, dynamics: Dynamics, steps: int) -> int:
        """Passes that do the work of `steps` steps of the synchronous dynamics."""

    def init(self, dynamics: Dynamics, state: State) -> Memory:
        """What is remembered before the first pass."""

    def step(
        self, dynamics: Dynamics, state: State, memory: Memory, count: int | Array
    ) -> tuple[State, Memory]:
        """One pass, given how many went before it."""


def make_solver(relaxation: RelaxationSettings) -> Solver:
    """The solver that settings name, with its parameters from them."""
    solver: Solver = SOLVERS[relaxation.solver](relaxation)
    return solver


def solve(
    solver: Solver, dynamics: Dynamics, state: State, steps: int, tolerance: float
) -> tuple[State, Array]:
    """Run a solver from a state for `steps` steps, or until nothing moves.

    Args:
        solver: from `make_solver`.
        dynamics: what moves the state.
        state: where to start.
        steps: most steps in the sense of the synchronous dynamics.
        tolerance: as of `iterate`.

    Returns:
        The state and the passes run (int32).
    """

    def step(carry: tuple[State, Memory], count: int | Array) -> tuple[State, Memory]:
        return solver.step(dynamics, *carry, count)

    carry = state, solver.init(dynamics, state)
    passes = solver.num_passes(dynamics, steps)
    (end, _), count = iterate(step, carry, passes, tolerance, dynamics.batch_ndim, lambda own: own[0])
    return end, count


def _everything(carry: T) -> Any:
    return carry


def iterate(
    step: Callable[[T, int | Array], T],
    start: T,
    max_passes: int,
    tolerance: float,
    batch_ndim: int,
    watched: Callable[[T], Any] = _everything,
) -> tuple[T, Array]:
    """Apply `step` until nothing moves.

    An example that moves less than `tolerance` is not for that at a fixed point: it may be slow. One that
    alternates keeps the batch running to `max_passes`; one that is no longer finite does not.

    Args:
        step: one pass, given how many went before it.
        start: any tree of arrays.
        max_passes: most passes.
        tolerance: stop once every example moved less than this in a pass; 0 runs all `max_passes`, and only
            then can the loop be differentiated in reverse mode.
        batch_ndim: leading axes that count examples.
        watched: the part of the tree that has to stop moving, its arrays with those axes in front.

    Returns:
        The tree at the end and the number of passes (int32).
    """
    if tolerance == 0:
        end = jax.lax.fori_loop(0, max_passes, lambda count, carry: step(carry, count), start)
        return end, jnp.int32(max_passes)

    def unfinished(carry: tuple[T, Array, Array]) -> Array:
        _, count, moving = carry
        return (count < max_passes) & moving

    def advance(carry: tuple[T, Array, Array]) -> tuple[T, Array, Array]:
        old, count, _ = carry
        new = step(old, count)
        change = example_norm(jax.tree.map(jnp.subtract, watched(new), watched(old)), batch_ndim)
        # An example that turned NaN never settles and must not keep the others running.
        return new, count + 1, jnp.any(change >= tolerance)

    end, count, _ = jax.lax.while_loop(unfinished, advance, (start, jnp.int32(0), jnp.bool_(True)))
    return end, count
