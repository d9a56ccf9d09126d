"""Evaluation: the free phase over a split."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from hepcli.engine import (
    Params,
    PhaseReport,
    Problem,
    System,
    draw_noise,
    free_phase,
    homeostatic_loss,
    report,
)
from hepcli.settings import RelaxationSettings
from hepcli.training._feed import Batch, Feed
from hepcli.training._layout import Layout, OneForEach
from hepcli.training._learner import Preprocess, scale_pixels
from hepcli.training._metrics import Totals, add_totals, batch_totals, zero_totals

_UNITS_AT_ONCE = 2**26  # of the runs that a GPU evaluates at once: 128 dense ones with batches of 1,000


class EvaluationStopped(Exception):
    """An evaluation was asked to stop, so that there is no result."""


class Evaluator:
    """Loss, accuracy, residual and homeostatic loss of a network on a split.

    Args:
        system: the network.
        num_classes: classes of the targets.
        relaxation: how the free phase runs.
        num_draws: noise draws for the homeostatic loss.
        preprocess: uint8 images to real inputs.
    """

    def __init__(
        self,
        system: System,
        num_classes: int,
        relaxation: RelaxationSettings,
        num_draws: int,
        preprocess: Preprocess = scale_pixels,
    ) -> None:
        self._system = system
        self._num_classes = num_classes
        self._relaxation = relaxation
        self._num_draws = num_draws
        self._preprocess = preprocess
        self._programs: dict[Any, tuple[OneForEach, Callable[[Any], Totals]]] = {}
        # As decorators these would keep every evaluator, with its programs, as long as the process lives.
        self._whole = jax.jit(self._settle_whole, static_argnums=(2, 3))
        self._together = jax.jit(self._settle_together, static_argnums=(2, 3))

    def _settle(
        self, own: tuple[Array, Array, Array], params: Params, *, homeostasis: bool
    ) -> tuple[tuple[Array, Array, Array, PhaseReport], Array]:
        """Losses, scores, labels and free phases of examples, and the homeostatic loss times the examples.

        Args:
            own: images, labels, and their numbers in the split, which alone decide what is drawn for them.
            params: real parameters.
            homeostasis: whether the homeostatic loss is wanted.
        """
        (images, labels, places), system, key = own, self._system, jax.random.key(0)
        targets = jax.nn.one_hot(labels, self._num_classes, dtype=jnp.float32)
        inputs = self._preprocess(images)
        free = free_phase(Problem(system, params, inputs, targets, self._relaxation, key=key, places=places))
        activity = {name: system.activation(name, u) for name, u in free.phase.state.items()}
        losses = system.loss(params, activity["out"], targets)
        scores = system.output(params, activity["out"])
        homeostatic: Array = jnp.float32(0)
        if homeostasis:
            noise = draw_noise(key, activity, self._num_draws, places)
            homeostatic = homeostatic_loss(system, params, free.constant, activity, noise) * len(labels)
        return (losses, scores, labels, report(free.phase)), homeostatic

    def _settle_whole(self, params: Params, batch: Batch, layout: Layout, homeostasis: bool) -> Totals:
        constrain, (images, labels, rows, indices) = layout.constrain, batch
        own = constrain(images[rows]), constrain(labels[rows]), indices
        return _totals(*layout.by_device(partial(self._settle, homeostasis=homeostasis), own, params))

    def _settle_together(self, params: Params, batch: Batch, layout: Layout, homeostasis: bool) -> Totals:
        """`_settle_whole` of several runs: parameters, examples and totals have a leading axis of runs."""

        def one_run(own: tuple[Params, Array, Array]) -> Totals:
            params, rows, indices = own
            mine = batch._replace(rows=rows, indices=indices)
            totals: Totals = self._settle_whole(params, mine, layout, homeostasis)
            return totals

        state = self._system.zero_state(self._preprocess(batch.images[batch.rows[0]]))
        units = sum(u.size for u in jax.tree.leaves(state))
        at_once = 1 if layout.devices[0].platform == "cpu" else max(1, _UNITS_AT_ONCE // units)
        totals: Totals = jax.lax.map(one_run, (params, batch.rows, batch.indices), batch_size=at_once)
        return totals

    def _apart(self, params: Params, batch: Batch, layout: Layout, homeostasis: bool) -> Totals:
        shape = layout, homeostasis, len(batch.rows)
        if shape not in self._programs:
            each = layout.one_for_each(partial(self._settle, homeostasis=homeostasis))
            self._programs[shape] = each, jax.jit(lambda packed: _totals(*each.add_up(packed)))
        each, finish = self._programs[shape]
        totals: Totals = finish(each((batch.images, batch.labels, batch.indices), params))
        return totals

    def __call__(
        self,
        params: Params,
        feed: Feed,
        batch_size: int,
        *,
        homeostasis: bool = True,
        examples: NDArray[np.int64] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Totals:
        """Evaluate examples of a split; the last batch may be smaller.

        Args:
            params: real parameters; with a leading axis of runs those of several.
            feed: of the split.
            batch_size: examples per batch.
            homeostasis: whether the homeostatic loss is wanted.
            examples: their numbers, at least one; of several runs for each (runs, examples). None for all.
            stop: asked before every batch; True ends the evaluation.

        Returns:
            The sums over the examples; the homeostatic loss is that of the first batch. Of several runs
            with a leading axis of runs.

        Raises:
            EvaluationStopped: `stop` returned True.
        """
        totals = zero_totals()
        numbers = np.arange(feed.num_examples) if examples is None else examples
        starts = range(0, numbers.shape[-1], batch_size)
        chunks = (numbers[..., start : start + batch_size] for start in starts)
        settle = self._together if numbers.ndim > 1 else self._apart if feed.layout.is_apart else self._whole
        for start, batch in zip(starts, feed.batches(chunks), strict=True):
            if stop():
                raise EvaluationStopped
            seen = settle(params, batch, feed.layout, homeostasis and start == 0)
            totals = _add(totals, seen)
        weight = len(starts) / numbers.shape[-1]  # `means` divides by batches, as if they were of one size
        return totals | {"passes": totals["passes"] * weight}


_add = jax.jit(add_totals)


def _totals(settled: tuple[Array, Array, Array, PhaseReport], homeostatic: Array) -> Totals:
    """The sums of a batch from what `_settle` says of it, passes too: the last batch may be smaller."""
    losses, scores, labels, free = settled
    totals = batch_totals(losses, scores, labels, free, None, homeostatic / len(labels))
    return totals | {"passes": totals["passes"] * len(labels)}
