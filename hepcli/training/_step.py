"""The jitted training step: (state, batch) to (state, loss)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float, Int, UInt8, UInt32

from hepcli.engine import (
    Estimate,
    Gradient,
    Problem,
    State,
    System,
    draw_noise,
    estimate,
    homeostatic_gradient,
)
from hepcli.settings import GradientSettings, HomeostasisSettings, RelaxationSettings
from hepcli.training._layout import Layout
from hepcli.training._metrics import Totals, add_totals, batch_totals, zero_totals

_NOISE_TAG = 0x6E6F6973  # "nois": keeps the noise of the dynamics apart from homeostasis' draws


class TrainState(NamedTuple):
    """All that a resumed run needs.

    Attributes:
        params: real parameters.
        opt_state: the optimiser's.
        step: steps taken, int32.
        totals: sums over the current epoch so far.
        memory: the last free state of every example of the split, settled or not, (examples, *units) per
            layer, float32; None where free phases start from zero. It is always finite: a state that is not
            makes the loss so, which ends the run.
    """

    params: Gradient
    opt_state: optax.OptState
    step: Int[Array, ""]
    totals: Totals
    memory: State | None = None


class RunNumbers(NamedTuple):
    """The numbers in which runs of one compiled step may differ; an entry for each run.

    Attributes:
        seed: where the keys of all steps grow from, uint32.
        beta_radius: |β|, radius of the nudge circle.
        homeostasis_weight: λ.
        learning_rate: before schedule and multipliers.
    """

    seed: UInt32[Array, " runs"]
    beta_radius: Float[Array, " runs"]
    homeostasis_weight: Float[Array, " runs"]
    learning_rate: Float[Array, " runs"]


class LearningSettings(NamedTuple):
    """What a training step computes.

    Attributes:
        relaxation: how phases run.
        gradient: how the learning signal is estimated.
        homeostasis: weight and draws of the homeostatic loss; a weight of 0 leaves it out.
        seed: where the keys of all steps grow from.
        change_gradient: applied to the learning signal's gradient, before homeostasis adds its own.
    """

    relaxation: RelaxationSettings
    gradient: GradientSettings
    homeostasis: HomeostasisSettings
    seed: int | Array
    change_gradient: Callable[[Gradient], Gradient] | None = None


Pixels = UInt8[Array, "examples height width channels"]
Preprocess = Callable[[Array], Array]
Augment = Callable[[Array, Array, int | Array, Array], Array]
TrainStep = Callable[[TrainState, Array, Array, Array, Array], tuple[TrainState, Array]]


def scale_pixels(
    images: UInt8[Array, "batch height width channels"],
) -> Float[Array, "batch height width channels"]:
    """Pixels/255, float32."""
    return images.astype(jnp.float32) / 255


def init_state(
    params: Gradient, optimizer: optax.GradientTransformation, memory: State | None = None
) -> TrainState:
    """The state before the first step."""
    return TrainState(params, optimizer.init(params), jnp.int32(0), zero_totals(), memory)


def fresh_memory(system: System, image_shape: Sequence[int], num_examples: int) -> State:
    """The memory of a split none of whose examples was seen: zero states, as phases start from anyway."""
    one = jax.eval_shape(lambda: system.zero_state(jnp.zeros((1, *image_shape), jnp.float32)))
    return {name: jnp.zeros((num_examples, *u.shape[1:]), jnp.float32) for name, u in one.items()}


def make_train_step(
    system: System,
    num_classes: int,
    settings: LearningSettings,
    optimizer: optax.GradientTransformation,
    preprocess: Preprocess = scale_pixels,
    augment: Augment | None = None,
    layout: Layout | None = None,
) -> TrainStep:
    """Build the jitted step.

    Args:
        system: the network.
        num_classes: classes of the targets.
        settings: estimator, phases and homeostasis.
        optimizer: from `build_optimizer`.
        preprocess: uint8 images to real inputs, on the device.
        augment: (uint8 images, their indices, seed, step) to uint8 images, before `preprocess`.
        layout: the devices that share the batch; None for one.

    Returns:
        (state, images, labels, rows, indices) -> (state, mean loss of the batch before the step), with the
        last four from a `Batch`. The state is donated, and lies whole on every device.
    """
    homeostasis = bool(settings.homeostasis.weight)
    layout = layout or Layout(jax.local_devices()[:1])
    step = _pure_step(
        system, num_classes, settings, optimizer, preprocess, augment, layout, homeostasis=homeostasis
    )
    return jax.jit(step, donate_argnums=0, out_shardings=layout.everywhere)


def make_joint_step(
    system: System,
    num_classes: int,
    settings: LearningSettings,
    build_optimizer: Callable[[Array], optax.GradientTransformation],
    numbers: RunNumbers,
    preprocess: Preprocess = scale_pixels,
    augment: Augment | None = None,
) -> TrainStep:
    """Build a jitted step of several runs at once, each to rounding what it would be alone.

    Args:
        system: the network of all runs.
        num_classes: classes of the targets.
        settings: of all runs, but for the numbers; λ decides whether there is homeostasis at all.
        build_optimizer: learning rate to optimiser.
        numbers: what the runs differ in.
        preprocess: uint8 images to real inputs, on the device.
        augment: as in `make_train_step`.

    Returns:
        As `make_train_step`, with a leading axis of runs on state, rows, indices and loss.
    """
    homeostasis = bool(settings.homeostasis.weight)
    alone = Layout(jax.local_devices()[:1])

    def one_run(
        own: RunNumbers, state: TrainState, images: Pixels, labels: Array, rows: Array, indices: Array
    ) -> tuple[TrainState, Array]:
        mine = settings._replace(
            gradient=replace(settings.gradient, beta_radius=own.beta_radius),  # type: ignore[arg-type]
            homeostasis=replace(settings.homeostasis, weight=own.homeostasis_weight),  # type: ignore[arg-type]
            seed=own.seed,
        )
        optimizer = build_optimizer(own.learning_rate)
        step = _pure_step(
            system, num_classes, mine, optimizer, preprocess, augment, alone, homeostasis=homeostasis
        )
        return step(state, images, labels, rows, indices)

    joint = jax.jit(jax.vmap(one_run, in_axes=(0, 0, None, None, 0, 0)), donate_argnums=1)
    return partial(joint, numbers)


def _pure_step(
    system: System,
    num_classes: int,
    settings: LearningSettings,
    optimizer: optax.GradientTransformation,
    preprocess: Preprocess,
    augment: Augment | None,
    layout: Layout,
    *,
    homeostasis: bool,
) -> TrainStep:
    """The step before jit; `homeostasis` is told apart from its weight, which may be traced."""
    constrain = layout.constrain
    learn = partial(_learn, system, settings, layout)

    def step(
        state: TrainState,
        images: Pixels,
        labels: Int[Array, " examples"],
        rows: Int[Array, " batch"],
        indices: Int[Array, " batch"],
    ) -> tuple[TrainState, Float[Array, ""]]:
        own = constrain(labels[rows])
        targets = jax.nn.one_hot(own, num_classes, dtype=jnp.float32)
        chosen = constrain(images[rows])
        if augment is not None:
            chosen = augment(chosen, indices, settings.seed, state.step)
        inputs = preprocess(chosen)
        key = jax.random.fold_in(jax.random.key(settings.seed), state.step)
        noise_key = jax.random.fold_in(key, _NOISE_TAG) if settings.relaxation.noise_std else None
        memory, start = state.memory, None
        if memory is not None:
            start = {name: constrain(last[indices]) for name, last in memory.items()}
        result = learn(state.params, inputs, targets, start, noise_key)
        if memory is not None:
            memory = {name: last.at[indices].set(result.state[name]) for name, last in memory.items()}
        activity = {name: system.activation(u) for name, u in result.state.items()}
        gradient, homeostatic = result.gradient, jnp.float32(0)
        if settings.change_gradient is not None:
            gradient = settings.change_gradient(gradient)
        if homeostasis:
            noise = draw_noise(key, activity, settings.homeostasis.num_draws)
            homeostatic, pull = homeostatic_gradient(system, state.params, inputs, activity, noise)
            gradient = jax.tree.map(lambda g, h: g + settings.homeostasis.weight * h, gradient, pull)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        losses = system.loss(state.params, activity["out"], targets)
        scores = system.output(state.params, activity["out"])
        seen = batch_totals(losses, scores, own, result.free, result.nudged, homeostatic, result.signal)
        params = optax.apply_updates(state.params, updates)
        totals = add_totals(state.totals, seen)
        return TrainState(params, opt_state, state.step + 1, totals, memory), losses.mean()

    return step


def _learn(
    system: System,
    settings: LearningSettings,
    layout: Layout,
    params: Gradient,
    inputs: Array,
    targets: Array,
    start: State | None,
    key: Array | None,
) -> Estimate:
    """The learning signal of a batch; each device runs the phases of its own examples by itself.

    Not where there is noise: that of a batch is drawn as a whole, so that it is the same on any devices.
    """

    def learned(own: tuple[Array, Array, State | None], params: Gradient) -> Estimate:
        inputs, targets, start = own
        return estimate(
            Problem(system, params, inputs, targets, settings.relaxation, settings.gradient, key, start)
        )

    own = inputs, targets, start
    if layout.num_devices == 1 or key is not None:
        return learned(own, params)

    def apart(own: tuple[Array, Array, State | None], params: Gradient) -> tuple[Any, Any]:
        """What belongs to examples, but for the error vector, which nobody reads; and sums over them."""
        result = learned(own, params)
        gradient = jax.tree.map(lambda g: g * result.num_learned, result.gradient)
        return (result.state, result.free, result.nudged, result.signal), (gradient, result.num_learned)

    (state, free, nudged, signal), (gradient, count) = layout.by_device(apart, own, params)
    mean = jax.tree.map(lambda g: g / jnp.maximum(count, 1), gradient)
    return Estimate(state, None, mean, count, free, nudged, signal)
