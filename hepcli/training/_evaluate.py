"""Evaluation: the free phase over a split."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hepcli.engine import (
    Params,
    Phase,
    Problem,
    System,
    draw_noise,
    free_phase,
    homeostatic_loss,
    report,
)
from hepcli.settings import RelaxationSettings
from hepcli.training._feed import Batch, Feed
from hepcli.training._layout import Layout
from hepcli.training._metrics import Totals, add_totals, batch_totals, zero_totals
from hepcli.training._step import Preprocess, scale_pixels


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
        self, params: Params, batch: Batch, key: Array, layout: Layout, with_homeostasis: bool
    ) -> Totals:
        constrain = layout.constrain
        images, labels = constrain(batch.images[batch.rows]), constrain(batch.labels[batch.rows])
        targets = jax.nn.one_hot(labels, self._num_classes, dtype=jnp.float32)
        inputs = self._preprocess(images)

        def settle(own: tuple[Array, Array], params: Params) -> tuple[Phase, tuple[()]]:
            problem = Problem(self._system, params, *own, self._relaxation, key=key)
            return free_phase(problem).phase, ()

        # The noise of a batch is drawn as a whole, so that it is the same on any devices.
        apart = settle if self._relaxation.noise_std else partial(layout.by_device, settle)
        phase, _ = apart((inputs, targets), params)
        activity = {name: self._system.activation(u) for name, u in phase.state.items()}
        losses = self._system.loss(params, activity["out"], targets)
        scores = self._system.output(params, activity["out"])
        homeostatic: Array | float = 0.0
        if with_homeostasis:
            noise = draw_noise(key, activity, self._num_draws)
            constant = self._system.input_drive(params, inputs)
            homeostatic = homeostatic_loss(self._system, params, constant, activity, noise)
        return batch_totals(losses, scores, labels, report(phase), None, homeostatic)

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
            seen = self._batch(params, batch, own_key, feed.layout, homeostasis and start == 0)
            totals = add_totals(totals, seen)
            homeostatic = homeostatic + seen["homeostatic_loss"]
        return totals, homeostatic
