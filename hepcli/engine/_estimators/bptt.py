"""`bptt`: reverse mode through the end of the free phase, the baseline without an error vector."""

from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool

from hepcli.engine._estimator import built_in
from hepcli.engine._problem import count_of, free_phase, learned_examples, only, phase_keys
from hepcli.engine._relax import relax, report
from hepcli.engine._types import Estimate, Gradient, Params, Problem, State


def bptt(problem: Problem) -> Estimate:
    """Gradient of the loss by backpropagation through the last `nudged_steps` steps from u*.

    Memory grows with `nudged_steps`, as always in reverse mode; they are plain passes, without tolerance or
    mixing, of the dynamics as they run: for an example that has not settled the gradient is that of the loss
    at the state they end with.

    Args:
        problem: the batch and the network.

    Returns:
        The estimate, with no error vector and no nudged phase. `signal` is the gradient of each example's
        loss by a constant input to each unit: at a fixed point, with synchronous steps, the error vector of
        `neumann_rbp` with as many terms.

    Source: METHOD §3.
    """
    free = free_phase(problem)
    learned = learned_examples(problem, free.phase)
    gradient, signal = bptt_gradient(problem, free.phase.state, learned)
    every_signal = signal if learned is None else None
    count = count_of(problem, learned)
    return Estimate(free.phase.state, None, gradient, count, report(free.phase), None, every_signal)


def bptt_gradient(
    problem: Problem, start: State, learned: Bool[Array, " batch"] | None = None, noise: str = "reverse"
) -> tuple[Gradient, State]:
    """Gradient of the loss after `nudged_steps` more steps from `start`, which is held fixed.

    Args:
        problem: the batch and the network.
        start: pre-activations (batch, *units), real.
        learned: which examples count; None for all.
        noise: the phase whose noise the steps have.

    Returns:
        The gradient, real, summed over the examples that count; and that of each one's loss with
        respect to a constant input to each unit (batch, *units), zero for those that do not.
    """
    system = problem.system
    settings = problem.relaxation.nudged
    every_step = replace(settings, tolerance=0.0)
    if learned is not None:
        start = only(learned, start)

    def loss(params: Params, offset: State) -> Array:
        constant = system.input_drive(params, problem.inputs)
        drive = {name: c + offset[name] for name, c in constant.items()}
        phase = relax(
            system, params, drive if learned is None else only(learned, drive), start,
            steps=every_step.nudged_steps, settings=every_step, keys=phase_keys(problem, noise),
            by_reverse_mode=True,
        )  # fmt: skip
        losses = system.loss(params, system.activation("out", phase.state["out"]), problem.targets)
        return jnp.sum(losses if learned is None else jnp.where(learned, losses, 0.0))

    gradient: tuple[Gradient, State] = jax.grad(loss, (0, 1))(
        problem.params, jax.tree.map(jnp.zeros_like, start)
    )
    return gradient


BPTT = built_in("bptt", bptt)
