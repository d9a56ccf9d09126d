"""`bptt`: reverse mode through the end of the free phase, the baseline without an error vector."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from hepcli.engine._problem import free_phase, phase_key
from hepcli.engine._relax import relax, report
from hepcli.engine._types import Estimate, Gradient, Params, Problem, State


def bptt(problem: Problem) -> Estimate:
    """Gradient of the loss by backpropagation through the last `nudged_steps` steps from u*.

    Memory grows with `nudged_steps`, as always in reverse mode; the tolerance does not apply to them.

    Args:
        problem: the batch and the network.

    Returns:
        The estimate, with no error vector and no nudged phase.

    Source: METHOD §3.
    """
    free = free_phase(problem)
    gradient = bptt_gradient(problem, free.phase.state)
    return Estimate(free.phase.state, None, gradient, report(free.phase), None)


def bptt_gradient(problem: Problem, start: State, weights: Float[Array, " batch"] | None = None) -> Gradient:
    """Gradient of the loss after `nudged_steps` more steps from `start`, which is held fixed.

    Args:
        problem: the batch and the network.
        start: pre-activations (batch, *units), real.
        weights: factor of each example's loss in the sum; None takes the mean over the batch.

    Returns:
        The gradient, real.
    """
    system = problem.system
    every_step = problem.relaxation._replace(tolerance=0.0)

    def loss(params: Params) -> Array:
        constant = system.input_drive(params, problem.inputs)
        phase = relax(
            system, params, constant, start,
            steps=every_step.nudged_steps, settings=every_step, key=phase_key(problem, "reverse"),
        )  # fmt: skip
        losses = system.loss(params, system.activation(phase.state["out"]), problem.targets)
        return jnp.mean(losses) if weights is None else jnp.sum(weights * losses)

    gradient: Gradient = jax.grad(loss)(problem.params)
    return gradient
