"""`feedforward`: ordinary backpropagation through the network without its feedback, the ceiling."""

from hepcli.engine._estimator import built_in
from hepcli.engine._estimators.bptt import bptt_gradient
from hepcli.engine._problem import count_of, free_phase, learned_examples, one_pass_up
from hepcli.engine._relax import report
from hepcli.engine._types import Estimate, Problem


def feedforward(problem: Problem) -> Estimate:
    """Gradient of the loss by reverse mode through one pass from the input to the output.

    Args:
        problem: the batch and a network without cycles.

    Returns:
        The estimate, without a nudged phase. The error vector is the gradient of each example's loss with
        respect to the input of each unit, zero for examples that are skipped.

    Raises:
        ValueError: the network has a cycle.

    Source: Rumelhart, Hinton & Williams (1986); METHOD §3.
    """
    settings = one_pass_up(problem)
    if settings is None:
        raise ValueError("feedforward needs a network without feedback")
    free = free_phase(problem)
    learned = learned_examples(problem, free.phase)
    one_pass = problem._replace(relaxation=settings)
    gradient, deltas = bptt_gradient(one_pass, free.phase.state, learned, noise="free")  # the same pass again
    count = count_of(problem, learned)
    return Estimate(free.phase.state, deltas, gradient, count, report(free.phase), None, deltas)


FEEDFORWARD = built_in("feedforward", feedforward)
