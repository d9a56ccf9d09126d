"""`predictive_coding`: layers that differ from what the layers below predict, by errors that come down."""

import jax
import jax.numpy as jnp
from jax import Array

from hepcli.engine._dynamics import drive
from hepcli.engine._estimator import built_in
from hepcli.engine._iterate import Context, Pass, iterate
from hepcli.engine._norms import example_norm
from hepcli.engine._problem import (
    activities,
    count_of,
    free_phase,
    learned_examples,
    summed_gradient,
)
from hepcli.engine._relax import report, report_of, split_drive
from hepcli.engine._types import Estimate, Problem, State
from hepcli.settings import flow_levels


def predictive_coding(problem: Problem) -> Estimate:
    """e = −ε/β at the minimum over u of ½ Σ ‖ε‖² + β L, with prediction errors ε = u − D(σ(u)).

    There ε = σ'(u) (D'ᵀ ε − β ∂L/∂r_out), which is iterated, layer after layer from the output down, together
    with u = D(σ(u)) + ε, from one pass from the input up, `nudged_steps` steps in all. The learning rule is
    (∂D/∂θ)ᵀ e at the u that was inferred, which is the slope of the energy over β. With β → 0 e tends to the
    deltas of backpropagation; β = 1 is the usual energy.

    Args:
        problem: the batch and a network without cycles; β is `gradient.beta_radius`.

    Returns:
        The estimate; `free` records the pass up, `nudged` how far one more pass would move u, over β.

    Raises:
        ValueError: the network has a cycle.

    Source: Whittington & Bogacz (2017); small β: Song et al. (2020), Millidge et al. (2022). METHOD §10.
    """
    system, relaxation, beta = problem.system, problem.relaxation, problem.signal_settings.beta_radius
    levels = flow_levels(tuple(system.layers), tuple(system.edges))
    if levels is None:
        raise ValueError("predictive_coding needs a network without feedback")
    free = free_phase(problem)
    constants, shared = split_drive(free.constant, free.phase.state)

    def prepare(own: Context) -> Pass[tuple[State, State]]:
        constant, targets = shared | own["drive"], own["targets"]

        def slope_of_loss(state: State) -> State:
            def total_loss(u: State) -> Array:
                return jnp.sum(system.loss(problem.params, activities(problem, u)["out"], targets))

            slope: State = jax.grad(total_loss)(state)
            return slope

        def move(both: tuple[State, State], count: int | Array) -> tuple[State, State]:
            state, error = both
            for layers in reversed(levels):
                ahead, pull_back = jax.vjp(
                    lambda u: drive(system, problem.params, system.layers, u, constant), state
                )
                down, slope = pull_back(error)[0], slope_of_loss(state)
                error = error | {name: down[name] - beta * slope[name] for name in layers}
                state = state | {name: ahead[name] + error[name] for name in layers}
            return state, error

        return move

    start = free.phase.state, jax.tree.map(jnp.zeros_like, free.phase.state)
    passes = -(-relaxation.nudged_steps // len(levels))
    context = {"drive": constants, "targets": problem.targets}
    (state, error), count = iterate(prepare, context, start, passes, relaxation.nudged_by(beta).tolerance)
    after, _ = prepare(context)((state, error), 0)
    moved = {name: (u - state[name]) / beta for name, u in after.items()}
    error_vector = {name: -epsilon / beta for name, epsilon in error.items()}
    nudged = report_of(example_norm(moved, 1), error_vector, relaxation, count)
    learned = learned_examples(problem, free.phase)
    gradient = summed_gradient(problem, state, error_vector, learned)
    number = count_of(problem, learned)
    return Estimate(
        free.phase.state, error_vector, gradient, number, report(free.phase), nudged, error_vector
    )


PREDICTIVE_CODING = built_in("predictive_coding", predictive_coding)
