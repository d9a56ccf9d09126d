"""Runs of one task, evaluated at the end of an epoch in one program."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from hepcli.data import SplitName
from hepcli.engine import Gradient
from hepcli.training import Totals

if TYPE_CHECKING:
    from hepcli.experiments.run import Run

T = TypeVar("T")


class Evaluated(NamedTuple):
    """A run at the end of an epoch.

    Attributes:
        params: as its devices read them.
        test: sums over the test split, and with the homeostatic loss.
        validation: sums over the examples that it keeps for validation; None without.
    """

    params: Gradient
    test: Totals
    validation: Totals | None


def stack(trees: Sequence[T]) -> T:
    """The trees of several runs as one, with a leading axis of runs."""
    stacked: T = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    return stacked


def evaluate_runs(runs: Sequence["Run"], stop: Callable[[], bool]) -> list[Evaluated]:
    """Evaluate runs of one task at the end of an epoch, all in one program.

    Raises:
        EvaluationStopped: `stop`, asked before every batch, said so.
    """
    first = runs[0]
    task, size = first.task, first.config.data.eval_batch_size
    read = [task.weights_as_read(run.state.params, run.config, run.step) for run in runs]
    is_alone = len(runs) == 1
    params = read[0] if is_alone else stack(read)

    def totals(split: SplitName, examples: list[NDArray[np.int64]], *, homeostasis: bool) -> list[Totals]:
        chosen = examples[0] if is_alone else np.stack(examples)
        sums = task.evaluator(
            params, task.feed(split), size, homeostasis=homeostasis, examples=chosen, stop=stop
        )
        if is_alone:
            return [sums]
        host = jax.device_get(sums)
        return [{name: value[place] for name, value in host.items()} for place in range(len(runs))]

    every = np.arange(len(task.split("test").labels))
    test = totals("test", [every] * len(runs), homeostasis=True)
    validation: Sequence[Totals | None] = [None] * len(runs)
    if first.held_out.size:
        validation = totals("train", [run.held_out for run in runs], homeostasis=False)
    return [Evaluated(*own) for own in zip(read, test, validation, strict=True)]
