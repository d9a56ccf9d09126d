"""`dual_propagation`: layers of dyads, whose mean goes up and whose difference comes down."""

import jax
import jax.numpy as jnp
from jax import Array

from hepcli.engine._dynamics import drive_at
from hepcli.engine._estimator import built_in
from hepcli.engine._iterate import Context, Pass, iterate
from hepcli.engine._norms import example_norm
from hepcli.engine._problem import (
    activities,
    count_of,
    drive_gradient,
    free_phase,
    learned_examples,
    only,
    readout_gradient,
)
from hepcli.engine._relax import in_float32, report, report_of, split_drive
from hepcli.engine._types import Estimate, Gradient, Problem, State
from hepcli.settings import flow_levels

Dyads = tuple[State, State]


@in_float32
def dual_propagation(problem: Problem) -> Estimate:
    """e = (r⁺ − r⁻)/β, with r^± = σ(D(r̄) ± ½(D'(r̄)ᵀ(r⁺ − r⁻) + β ∂L/∂r_out)) and r̄ their mean.

    The dyads start from one pass from the input up, and are updated layer after layer from the output down,
    `nudged_steps` steps in all; the first pass already has the deltas of backpropagation to first order in β.
    Learning is (∂D/∂θ)ᵀ e at r̄. Feedback is the transpose of the forward weights.

    Args:
        problem: the batch and a network without cycles; β is `gradient.beta_radius`.

    Returns:
        The estimate; `free` records the pass up, `nudged` how far one more pass would move the dyads, over β.

    Raises:
        ValueError: the network has a cycle.

    Source: Høier, Staudt & Zach (2023), arXiv:2302.01228, with α = ½ (METHOD §10).
    """
    system, relaxation, beta = problem.system, problem.relaxation, problem.signal_settings.beta_radius
    levels = flow_levels(tuple(system.layers), tuple(system.edges))
    if levels is None:
        raise ValueError("dual_propagation needs a network without feedback")
    free = free_phase(problem)
    constants, shared = split_drive(free.constant, free.phase.state)

    def prepare(own: Context) -> Pass[Dyads]:
        constant, targets = shared | own["drive"], own["targets"]

        def move(dyads: Dyads, count: int | Array) -> Dyads:
            plus, minus = dyads
            for layers in reversed(levels):
                mean, difference = _mean_and_difference(problem, (plus, minus))
                ahead, pull_back = jax.vjp(
                    lambda r: drive_at(system, problem.params, system.layers, r, constant), mean
                )
                down = pull_back(difference)[0]
                down["out"] = down["out"] + beta * system.loss_gradient(problem.params, mean["out"], targets)
                plus = plus | {name: ahead[name] + down[name] / 2 for name in layers}
                minus = minus | {name: ahead[name] - down[name] / 2 for name in layers}
            return plus, minus

        return move

    start, passes = (free.phase.state, free.phase.state), -(-relaxation.nudged_steps // len(levels))
    context = {"drive": constants, "targets": problem.targets}
    dyads, count = iterate(prepare, context, start, passes, relaxation.nudged_by(beta).tolerance)
    moved: Dyads = jax.tree.map(jnp.subtract, prepare(context)(dyads, 0), dyads)
    mean, difference = _mean_and_difference(problem, dyads)
    error_vector = {name: d / beta for name, d in difference.items()}
    nudged = report_of(example_norm(moved, 1) / beta, error_vector, relaxation, count)

    learned, state = learned_examples(problem, free.phase), free.phase.state
    if learned is not None:
        state, mean, signal = only(learned, state), only(learned, mean), only(learned, error_vector)
    else:
        signal = error_vector
    through_states = drive_gradient(problem, mean, signal)
    direct = readout_gradient(problem, state, learned)
    gradient: Gradient = jax.tree.map(jnp.add, through_states, direct)
    number = count_of(problem, learned)
    return Estimate(
        free.phase.state, error_vector, gradient, number, report(free.phase), nudged, error_vector
    )


def _mean_and_difference(problem: Problem, dyads: Dyads) -> Dyads:
    """r̄ and r⁺ − r⁻ of states."""
    plus, minus = (activities(problem, state) for state in dyads)
    return {name: (r + minus[name]) / 2 for name, r in plus.items()}, {
        name: r - minus[name] for name, r in plus.items()
    }


DUAL_PROPAGATION = built_in("dual_propagation", dual_propagation)
