"""The jitted training step: (state, batch) to (state, loss)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float, Int, UInt8

from hepcli.engine import (
    Gradient,
    GradientSettings,
    Problem,
    RelaxationSettings,
    System,
    activities,
    draw_noise,
    estimate,
    homeostatic_gradient,
)
from hepcli.training._metrics import Totals, add_totals, batch_totals, zero_totals


class TrainState(NamedTuple):
    """All that a resumed run needs.

    Attributes:
        params: real parameters.
        opt_state: the optimiser's.
        step: steps taken, int32.
        totals: sums over the current epoch so far.
    """

    params: Gradient
    opt_state: optax.OptState
    step: Int[Array, ""]
    totals: Totals


class LearningSettings(NamedTuple):
    """What a training step computes.

    Attributes:
        relaxation: how phases run.
        gradient: how the learning signal is estimated.
        homeostasis_weight: λ; 0 leaves the homeostatic loss out.
        homeostasis_draws: noise draws per batch.
        seed: where the keys of all steps grow from.
    """

    relaxation: RelaxationSettings
    gradient: GradientSettings
    homeostasis_weight: float
    homeostasis_draws: int
    seed: int


Pixels = UInt8[Array, "examples height width channels"]
Preprocess = Callable[[Array], Array]
Augment = Callable[[Array, Array, Array], Array]
TrainStep = Callable[[TrainState, Array, Array, Array], tuple[TrainState, Array]]


def scale_pixels(
    images: UInt8[Array, "batch height width channels"],
) -> Float[Array, "batch height width channels"]:
    """Pixels/255, float32."""
    return images.astype(jnp.float32) / 255


def init_state(params: Gradient, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return TrainState(params, optimizer.init(params), jnp.int32(0), zero_totals())


def make_train_step(
    system: System,
    num_classes: int,
    settings: LearningSettings,
    optimizer: optax.GradientTransformation,
    preprocess: Preprocess = scale_pixels,
    augment: Augment | None = None,
) -> TrainStep:
    """Build the jitted step.

    Args:
        system: the network.
        num_classes: classes of the targets.
        settings: estimator, phases and homeostasis.
        optimizer: from `build_optimizer`.
        preprocess: uint8 images to real inputs, on the device.
        augment: (uint8 images, their indices, step) to uint8 images, before `preprocess`; None for none.

    Returns:
        (state, images, labels, indices) -> (state, mean loss of the batch before the step); the images
        and labels of the whole split stay on the device, `indices` picks the batch. The state is donated.
    """

    def step(
        state: TrainState, images: Pixels, labels: Int[Array, " examples"], indices: Int[Array, " batch"]
    ) -> tuple[TrainState, Float[Array, ""]]:
        own = labels[indices]
        targets = jax.nn.one_hot(own, num_classes, dtype=jnp.float32)
        chosen = images[indices]
        inputs = preprocess(chosen if augment is None else augment(chosen, indices, state.step))
        problem = Problem(system, state.params, inputs, targets, settings.relaxation, settings.gradient)
        found = estimate(problem)
        activity = activities(problem, found.state)
        gradient, homeostatic = found.gradient, jnp.float32(0)
        if settings.homeostasis_weight:
            key = jax.random.fold_in(jax.random.key(settings.seed), state.step)
            noise = draw_noise(key, activity, settings.homeostasis_draws)
            homeostatic, pull = homeostatic_gradient(system, state.params, inputs, activity, noise)
            gradient = jax.tree.map(lambda g, h: g + settings.homeostasis_weight * h, gradient, pull)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        losses = system.loss(state.params, activity["out"], targets)
        scores = system.output(state.params, activity["out"])
        seen = batch_totals(losses, scores, own, found.free, found.nudged, homeostatic)
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, opt_state, state.step + 1, add_totals(state.totals, seen)), losses.mean()

    return jax.jit(step, donate_argnums=0)
