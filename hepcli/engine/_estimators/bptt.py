"""`bptt`: reverse mode through the end of the free phase, the baseline without an error vector."""

import jax
import jax.numpy as jnp

from hepcli.engine._problem import free_phase
from hepcli.engine._relax import relax, report
from hepcli.engine._types import Estimate, Params, Problem


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
    system = problem.system
    every_step = problem.relaxation._replace(tolerance=0.0)

    def loss(params: Params) -> jax.Array:
        constant = system.input_drive(params, problem.inputs)
        phase = relax(
            system, params, constant, free.phase.state, steps=every_step.nudged_steps, settings=every_step
        )
        return jnp.mean(system.loss(params, system.activation(phase.state["out"]), problem.targets))

    gradient = jax.grad(loss)(problem.params)
    return Estimate(free.phase.state, None, gradient, report(free.phase), None)
