"""Evaluation: the free phase over a split."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hepcli.engine import (
    Params,
    Problem,
    System,
    activities,
    draw_noise,
    free_phase,
    homeostatic_loss,
    report,
)
from hepcli.settings import RelaxationSettings
from hepcli.training._feed import Batch, Feed
from hepcli.training._metrics import Totals, add_totals, batch_totals, zero_totals
from hepcli.training._step import Preprocess, scale_pixels

Constrain = Callable[[Array], Array]


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

    @partial(jax.jit, static_argnums=(0, 4, 5))
    def _batch(
        self, params: Params, batch: Batch, key: Array, constrain: Constrain, with_homeostasis: bool
    ) -> Totals:
        images, labels = constrain(batch.images[batch.rows]), constrain(batch.labels[batch.rows])
        targets = jax.nn.one_hot(labels, self._num_classes, dtype=jnp.float32)
        problem = Problem(self._system, params, self._preprocess(images), targets, self._relaxation, key=key)
        free = free_phase(problem)
        activity = activities(free.problem, free.phase.state)
        losses = self._system.loss(params, activity["out"], targets)
        scores = self._system.output(params, activity["out"])
        homeostatic: Array | float = 0.0
        if with_homeostasis:
            noise = draw_noise(key, activity, self._num_draws)
            homeostatic = homeostatic_loss(self._system, params, free.constant, activity, noise)
        return batch_totals(losses, scores, labels, report(free.phase), None, homeostatic)

    def __call__(
        self, params: Params, feed: Feed, batch_size: int, *, homeostasis: bool = True
    ) -> tuple[Totals, Array]:
        """Evaluate every example of a split; the last batch may be smaller.

        Args:
            params: real parameters.
            feed: of the split.
            batch_size: examples per batch.
            homeostasis: whether the homeostatic loss is wanted.

        Returns:
            The sums over all examples, and the homeostatic loss on the first batch with a fixed key.
        """
        key = jax.random.key(0)
        totals, homeostatic = zero_totals(), jnp.float32(0)
        starts = range(0, feed.num_examples, batch_size)
        chunks = (np.arange(start, min(start + batch_size, feed.num_examples)) for start in starts)
        for start, batch in zip(starts, feed.batches(chunks), strict=True):
            own_key = jax.random.fold_in(key, start) if start else key
            seen = self._batch(params, batch, own_key, feed.layout.constrain, homeostasis and start == 0)
            totals = add_totals(totals, seen)
            homeostatic = homeostatic + seen["homeostatic_loss"]
        return totals, homeostatic
