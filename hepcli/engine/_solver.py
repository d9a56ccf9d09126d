"""What a solver is, and running one on dynamics."""

from collections.abc import Callable
from typing import Protocol

import jax
from jax import Array
from jaxtyping import Int

from hepcli.engine._dynamics import Dynamics
from hepcli.engine._iterate import Context, Pass, iterate
from hepcli.engine._types import State
from hepcli.settings import SOLVERS, RelaxationSettings

DynamicsOf = Callable[[Context], Dynamics]
"""The dynamics of some examples, given what they bring along."""


_MOST_KEPT = 1 << 25
"""Numbers in the states of all passes, 128 MB of them; reverse mode keeps about twenty times as much."""


class Solver(Protocol):
    """How a pass moves a state towards the fixed point of dynamics; it owns its parameters.

    To add one: one file in `engine/_solvers` with a function from `RelaxationSettings` to a solver, and one
    line in `hepcli/settings/parts.py`.
    """

    @property
    def memory(self) -> int:
        """States of which Anderson mixing makes the next one, beside the newest; 0 for plain passes."""

    def num_passes(self, dynamics: Dynamics, steps: int) -> int:
        """Passes that do the work of `steps` steps of the synchronous dynamics."""

    def step(self, dynamics: Dynamics, state: State, count: int | Array) -> State:
        """One pass, given how many went before it."""


def make_solver(relaxation: RelaxationSettings) -> Solver:
    """The solver that settings name, with its parameters from them; KeyError where there is none."""
    solver: Solver = SOLVERS[relaxation.solver](relaxation)
    return solver


def solve(
    settings: RelaxationSettings,
    dynamics_of: DynamicsOf,
    context: Context,
    state: State,
    steps: int,
    *,
    by_reverse_mode: bool = False,
) -> tuple[State, Int[Array, " batch"]]:
    """Run the solver of settings from a state.

    Args:
        settings: solver, and the tolerance at which an example stops.
        dynamics_of: what moves the state.
        context: of all examples.
        state: where to start, (batch, *units).
        steps: most steps in the sense of the synchronous dynamics.
        by_reverse_mode: as in `relax`.

    Returns:
        The state, and the passes of each example.
    """
    solver = make_solver(settings)
    passes = solver.num_passes(dynamics_of(context), steps)
    is_long = passes * sum(u.size for u in state.values()) > _MOST_KEPT

    def prepare(own: Context) -> Pass[State]:
        dynamics = dynamics_of(own)

        def step(state: State, count: int | Array) -> State:
            return solver.step(dynamics, state, count)

        return jax.checkpoint(step, prevent_cse=False) if by_reverse_mode and is_long else step

    memory = 0 if by_reverse_mode else solver.memory
    return iterate(prepare, context, state, passes, settings.tolerance, memory)
