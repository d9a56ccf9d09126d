"""The training loop as a generator of records; saving and showing are other rooms' business."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from numpy.typing import NDArray

from hepcli.engine import Params, all_finite
from hepcli.errors import DivergenceError
from hepcli.training._feed import Feed
from hepcli.training._learner import TrainState
from hepcli.training._step import TrainStep


class StepDone(NamedTuple):
    """A step was dispatched; its loss is read one step later.

    Attributes:
        state: after the step; donated by the next one, so copy what is to be kept.
        batch: batches of this epoch done.
    """

    state: TrainState
    batch: int


def epoch_steps(
    train_step: TrainStep,
    state: TrainState,
    feed: Feed,
    order: NDArray[np.int64],
    batch_size: int,
    first_batch: int = 0,
    check: Callable[[int, Array], None] | None = None,
) -> Iterator[StepDone]:
    """Run the batches of one epoch; examples beyond the last whole batch are skipped.

    Args:
        train_step: a program of `make_step_program` with its numbers.
        state: where to start; donated.
        feed: of the split.
        order: this epoch's permutation of the examples; one for each run, (runs, examples), with a joint
            step, whose runs are all at the same step.
        batch_size: examples per step.
        first_batch: batches already done, after a resume in mid-epoch.
        check: given every step with its loss; `check_finite` unless given.

    Yields:
        A record after every step. A step is dispatched before the loss of the one before it is read;
        the last loss of the epoch is read before the generator ends.

    Raises:
        DivergenceError: the loss of a step was not finite.
    """
    check = check or check_finite
    num_batches = order.shape[-1] // batch_size
    batches = order[..., : num_batches * batch_size].reshape(*order.shape[:-1], num_batches, batch_size)
    left = np.moveaxis(batches, -2, 0)[first_batch:]
    first_step = int(np.ravel(state.step)[0]) - first_batch
    unread: tuple[int, Array] | None = None
    for batch, given in enumerate(feed.batches(left), first_batch):
        state, loss = train_step(state, *given)
        if unread is not None:
            check(*unread)
        unread = first_step + batch + 1, loss
        yield StepDone(state, batch + 1)
    if unread is not None:
        check(*unread)


_DIVERGED = (
    "If its examples settled before (`settled` in metrics.jsonl, hep measure-asymmetry), start again with a "
    "lower optimizer.learning_rate, or with a smaller gradient.beta_radius where the method nudges; "
    "--init-from RUN:STEP starts from the weights of an earlier checkpoint. If they did not, the dynamics "
    "are unstable: lower network.layers.NAME.gain, or choose a bounded activation."
)


def check_finite(step: int, loss: Array) -> None:
    """Stop a run whose loss left the finite numbers.

    Raises:
        DivergenceError: the loss is not finite.
    """
    value = float(jax.device_get(loss))
    if not math.isfinite(value):
        raise DivergenceError(f"The loss of step {step} is {value}: training has diverged.", _DIVERGED)


def check_params(step: int, params: Params) -> None:
    """Stop a run whose parameters left the finite numbers, which its loss shows only a step later.

    Raises:
        DivergenceError: a parameter is not finite.
    """
    if not _all_finite(params):
        raise DivergenceError(
            f"After step {step} the weights contain NaN or infinity: training has diverged.", _DIVERGED
        )


@jax.jit
def _all_finite(params: Params) -> Array:
    return all_finite(params, 0)
