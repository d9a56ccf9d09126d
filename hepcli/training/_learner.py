"""What a batch teaches, and the step that it asks for: the mathematics of training, on arrays."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float, Int, UInt8, UInt32

from hepcli.engine import (
    Gradient,
    PhaseReport,
    Problem,
    SignalSums,
    State,
    System,
    draw_noise,
    draws_random_numbers,
    estimate,
    homeostatic_gradient,
    mean_gradient,
    signal_sums,
)
from hepcli.settings import GradientSettings, HardwareSettings, HomeostasisSettings, RelaxationSettings
from hepcli.training._hardware import updates_as_taken, weights_as_read
from hepcli.training._metrics import Totals, add_totals, batch_totals

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
    """The numbers in which runs of one compiled step may differ; an entry for each run, or those of one.

    If they are compiled in, they are Python numbers.

    Attributes:
        seed: from which the keys of all steps derive, uint32.
        beta_radius: |β|, radius of the nudge circle.
        homeostasis_weight: λ.
        learning_rate: before schedule and multipliers.
    """

    seed: UInt32[Array, "..."] | int
    beta_radius: Float[Array, "..."] | float
    homeostasis_weight: Float[Array, "..."] | float
    learning_rate: Float[Array, "..."] | float


class LearningSettings(NamedTuple):
    """What a training step computes, apart from the `RunNumbers`, which it is given unless they are fixed.

    Attributes:
        relaxation: how phases run.
        gradient: how the learning signal is estimated.
        homeostasis: draws of the homeostatic loss; a weight of 0 leaves it out.
        change_gradient: applied to the learning signal's gradient, before homeostasis adds its own.
        accumulate: parts in which a device takes its examples, one after the other.
        hardware: what the devices that hold the weights cannot do.
    """

    relaxation: RelaxationSettings
    gradient: GradientSettings
    homeostasis: HomeostasisSettings
    change_gradient: Callable[[Gradient], Gradient] | None = None
    accumulate: int = 1
    hardware: HardwareSettings = HardwareSettings()


Preprocess = Callable[[Array], Array]
"""uint8 images (batch, height, width, channels) -> real inputs of the same shape."""
Augment = Callable[[Array, Array, int | Array, Array], Array]
"""(uint8 images, their indices (batch,), seed, step) -> uint8 images of the same shape."""
BuildOptimizer = Callable[[float | Array], optax.GradientTransformation]


def scale_pixels(
    images: UInt8[Array, "batch height width channels"],
) -> Float[Array, "batch height width channels"]:
    """Pixels/255, float32."""
    return images.astype(jnp.float32) / 255


class Examples(NamedTuple):
    """Examples of a batch, all or some of them.

    Attributes:
        images: uint8 (batch, height, width, channels).
        labels: int (batch,).
        indices: their numbers in the split, int32.
        places: in the batch, int32.
        start: pre-activations that their free phases start from; None for zero.
    """

    images: Array
    labels: Array
    indices: Array
    places: Array
    start: State | None


class Learned(NamedTuple):
    """What examples taught, one by one.

    Attributes:
        state: where the learning rule was applied; None where states are not kept.
        losses: before the step (batch,).
        scores: likewise (batch, classes).
        labels: (batch,).
        free: the free phases.
        nudged: the nudged phases; None where there are none to report.
    """

    state: State | None
    losses: Array
    scores: Array
    labels: Array
    free: PhaseReport
    nudged: PhaseReport | None


Shared = tuple[RunNumbers, Gradient, Int[Array, ""]]
"""What all examples of a batch learn with: the run's numbers, its parameters, and steps taken."""


class LearnedSums(NamedTuple):
    """What examples taught together: sums over them, so that parts of a batch add up.

    Attributes:
        gradient: of the learning signal.
        num_learned: examples that it comes from.
        signal: the error signals; None where there are none.
        homeostatic: the homeostatic loss and its gradient times the examples; None without.
        examples: how many they are.
    """

    gradient: Gradient
    num_learned: Array
    signal: SignalSums | None
    homeostatic: tuple[Array, Gradient] | None
    examples: Array


@dataclass(frozen=True)
class Learner:
    """What a step does before the parts of a batch meet, and after.

    Attributes:
        system: the network.
        num_classes: classes of the targets.
        settings: estimator, phases and homeostasis.
        build_optimizer: learning rate to optimiser.
        preprocess: uint8 images to real inputs.
        augment: of the images; None leaves them.
        fixed: numbers of the run in place of those that are given.
    """

    system: System
    num_classes: int
    settings: LearningSettings
    build_optimizer: BuildOptimizer
    preprocess: Preprocess
    augment: Augment | None
    fixed: RunNumbers | None = None

    def learn(self, own: Examples, shared: Shared) -> tuple[Learned, LearnedSums]:
        """What examples teach, all at once or part after part.

        Args:
            own: the examples; a number that `accumulate` divides.
            shared: the run's numbers, its parameters, and steps taken.
        """
        count = self.settings.accumulate
        if count == 1:
            return self._learn(own, shared)
        parts = jax.tree.map(lambda leaf: leaf.reshape(count, -1, *leaf.shape[1:]), own)
        like = jax.eval_shape(self._learn, jax.tree.map(lambda leaf: leaf[0], parts), shared)[1]
        none_yet = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)

        def add_part(sums: LearnedSums, part: Examples) -> tuple[LearnedSums, Learned]:
            learned, more = self._learn(part, shared)
            return jax.tree.map(jnp.add, sums, more), learned

        sums, learned = jax.lax.scan(add_part, none_yet, parts)
        whole: Learned = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), learned)
        return whole, sums

    def _learn(self, own: Examples, shared: Shared) -> tuple[Learned, LearnedSums]:
        settings, system, (numbers, params, step) = self.settings, self.system, shared
        numbers = self.fixed or numbers
        if settings.hardware.changes_weights:
            params = weights_as_read(params, settings.hardware, numbers.seed, step)
        images = own.images
        if self.augment is not None:
            images = self.augment(images, own.indices, numbers.seed, step)
        inputs = self.preprocess(images)
        targets = jax.nn.one_hot(own.labels, self.num_classes, dtype=jnp.float32)
        key = jax.random.fold_in(jax.random.key(numbers.seed), step)
        is_random = draws_random_numbers(settings.relaxation, settings.gradient)
        noise_key = jax.random.fold_in(key, _NOISE_TAG) if is_random else None
        gradient = replace(settings.gradient, beta_radius=numbers.beta_radius)  # type: ignore[arg-type]
        problem = Problem(
            system, params, inputs, targets, settings.relaxation, gradient,
            noise_key, own.start, own.places,
        )  # fmt: skip
        result = estimate(problem)
        activity = {name: system.activation(name, u) for name, u in result.state.items()}
        examples, homeostatic = jnp.float32(len(own.labels)), None
        if settings.homeostasis.weight:
            noise = draw_noise(key, activity, settings.homeostasis.num_draws, own.places)
            value = homeostatic_gradient(system, params, inputs, activity, noise)
            homeostatic = jax.tree.map(lambda leaf: leaf * examples, value)
        losses = system.loss(params, activity["out"], targets)
        scores = system.output(params, activity["out"])
        state = None if own.start is None else result.state
        signal = None if result.signal is None else signal_sums(result.signal, result.free)
        return (
            Learned(state, losses, scores, own.labels, result.free, result.nudged),
            LearnedSums(result.gradient_sum, result.num_learned, signal, homeostatic, examples),
        )

    def step(
        self,
        numbers: RunNumbers,
        state: TrainState,
        indices: Array,
        learned: Learned,
        sums: LearnedSums,
    ) -> tuple[TrainState, Float[Array, ""]]:
        """Take the step that the examples of a whole batch ask for.

        Args:
            numbers: of the run.
            state: before the step.
            indices: of the examples in the split.
            learned: of all of them.
            sums: over all of them.

        Returns:
            The state after the step, and the mean loss before it.
        """
        numbers, memory = self.fixed or numbers, state.memory
        if memory is not None and learned.state is not None:
            memory = {name: last.at[indices].set(learned.state[name]) for name, last in memory.items()}
        gradient, homeostatic = mean_gradient(sums.gradient, sums.num_learned), jnp.float32(0)
        if self.settings.change_gradient is not None:
            gradient = self.settings.change_gradient(gradient)
        if sums.homeostatic is not None:
            homeostatic, pull = jax.tree.map(lambda leaf: leaf / sums.examples, sums.homeostatic)
            weight = numbers.homeostasis_weight
            gradient = jax.tree.map(lambda g, h: g + weight * h, gradient, pull)
        optimizer = self.build_optimizer(numbers.learning_rate)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        updates = updates_as_taken(updates, self.settings.hardware, numbers.seed, state.step)
        _, losses, scores, labels, free, nudged = learned
        seen = batch_totals(losses, scores, labels, free, nudged, homeostatic, sums.signal)
        params = optax.apply_updates(state.params, updates)
        totals = add_totals(state.totals, seen)
        return TrainState(params, opt_state, state.step + 1, totals, memory), losses.mean()
