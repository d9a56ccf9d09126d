"""The jitted training step: (state, batch) to (state, loss)."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float, Int, UInt8

from hepcli.engine import Gradient, State, System
from hepcli.training._footprint import peak_bytes
from hepcli.training._layout import Layout
from hepcli.training._learner import (
    Augment,
    BuildOptimizer,
    Examples,
    Learner,
    LearningSettings,
    Preprocess,
    RunNumbers,
    TrainState,
    scale_pixels,
)
from hepcli.training._metrics import zero_totals

TrainStep = Callable[..., tuple[TrainState, Array]]
"""(state, *batch) -> (state, loss): a `StepProgram` with its numbers."""
StepProgram = Callable[..., tuple[TrainState, Array]]
"""What `make_step_program` returns."""
Pixels = UInt8[Array, "examples height width channels"]


def init_state(
    params: Gradient, optimizer: optax.GradientTransformation, memory: State | None = None
) -> TrainState:
    """The state before the first step."""
    return TrainState(params, optimizer.init(params), jnp.int32(0), zero_totals(), memory)


def fresh_memory(system: System, image_shape: Sequence[int], num_examples: int) -> State:
    """The memory of a split none of whose examples was seen: zero states, as phases start from anyway.

    Returns:
        Per layer (examples, *units), float32.
    """
    one = jax.eval_shape(lambda: system.zero_state(jnp.zeros((1, *image_shape), jnp.float32)))
    return {name: jnp.zeros((num_examples, *u.shape[1:]), jnp.float32) for name, u in one.items()}


def make_step_program(
    system: System,
    num_classes: int,
    settings: LearningSettings,
    build_optimizer: BuildOptimizer,
    preprocess: Preprocess = scale_pixels,
    augment: Augment | None = None,
    layout: Layout | None = None,
    *,
    joint: bool = False,
    fixed: RunNumbers | None = None,
) -> StepProgram:
    """Build the compiled step of all runs that differ in their numbers only.

    Args:
        system: the network.
        num_classes: classes of the targets.
        settings: estimator, phases and homeostasis.
        build_optimizer: learning rate to optimiser.
        preprocess: uint8 images to real inputs, on the device.
        augment: (uint8 images, their indices, seed, step) to uint8 images, before `preprocess`.
        layout: the devices that share the batch; None for one.
        joint: whether it takes a step of several runs at once, on one device, each to rounding what it would
            be alone; numbers, state, rows, indices and loss then have a leading axis of runs.
        fixed: numbers to compile in, Python's own, in place of those that are given at each step.

    Returns:
        (numbers, state, images, labels, rows, indices) -> (state, mean loss of the batch before the step),
        with the last four from a `Batch`. The state is donated; it and the numbers must lie whole on every
        device of the layout or, where the devices are apart, on the first.
    """
    layout = layout or Layout(jax.local_devices()[:1])
    learner = Learner(system, num_classes, settings, build_optimizer, preprocess, augment, fixed)
    if layout.is_apart:
        return Apart(learner, layout)
    step = partial(_step, learner, layout)
    if joint:
        return jax.jit(jax.vmap(step, in_axes=(0, 0, None, None, 0, 0)), donate_argnums=1)
    return jax.jit(step, donate_argnums=1, out_shardings=layout.everywhere)


def step_bytes(
    system: System,
    num_classes: int,
    settings: LearningSettings,
    preprocess: Preprocess,
    params: Gradient,
    image_shape: Sequence[int],
    batch_size: int,
    fixed: RunNumbers | None = None,
) -> int:
    """The memory that a step takes, about, from its trace: nothing is computed or compiled.

    Args:
        system: the network.
        num_classes: classes of the targets.
        settings: estimator, phases and homeostasis.
        preprocess: uint8 images to real inputs.
        params: parameters, or their shapes.
        image_shape: (height, width, channels).
        batch_size: examples of a step, over all devices that share the memory.
        fixed: numbers to compile in, as for `make_step_program`.

    Returns:
        Bytes, see `peak_bytes`; without the optimiser's own state.
    """
    learner = Learner(system, num_classes, settings, lambda _: optax.identity(), preprocess, None, fixed)

    def arguments() -> tuple[Examples, RunNumbers, Array]:
        places = jnp.zeros(batch_size, jnp.int32)
        images = jnp.zeros((batch_size, *image_shape), jnp.uint8)
        zero = jnp.float32(0)
        numbers = RunNumbers(jnp.uint32(0), zero, zero, zero)
        return Examples(images, places, places, places, None), numbers, jnp.int32(0)

    own, numbers, step = jax.eval_shape(arguments)
    return peak_bytes(jax.make_jaxpr(learner.learn)(own, (numbers, params, step)))


def _step(
    learner: Learner,
    layout: Layout,
    numbers: RunNumbers,
    state: TrainState,
    images: Pixels,
    labels: Int[Array, " examples"],
    rows: Int[Array, " batch"],
    indices: Int[Array, " batch"],
) -> tuple[TrainState, Float[Array, ""]]:
    """A step as one program, on one device or on several that exchange sums."""
    constrain = layout.constrain
    start = state.memory
    if start is not None:
        start = {name: constrain(last[indices]) for name, last in start.items()}
    places = jnp.arange(len(rows), dtype=jnp.int32)
    own = Examples(constrain(images[rows]), constrain(labels[rows]), indices, places, start)
    shared = numbers, state.params, state.step
    learned, sums = layout.by_device(learner.learn, own, shared)
    return learner.step(numbers, state, indices, learned, sums)


class Apart:
    """A step as one program for each device, and one that adds up what they come to.

    Processor cores as devices wait for sums of each other by holding a thread, of which there may be too few
    for all of them to get that far; so nothing is exchanged within a program.

    Args:
        learner: what the devices do.
        layout: the devices.
    """

    def __init__(self, learner: Learner, layout: Layout) -> None:
        self._learn = layout.one_for_each(learner.learn)

        def finish(
            numbers: RunNumbers, state: TrainState, indices: Array, packed: list[list[Array]]
        ) -> tuple[TrainState, Array]:
            return learner.step(numbers, state, indices, *self._learn.add_up(packed))

        self._finish = jax.jit(finish, donate_argnums=1)

    def __call__(
        self,
        numbers: RunNumbers,
        state: TrainState,
        images: Pixels,
        labels: Array,
        rows: Array,
        indices: Array,
    ) -> tuple[TrainState, Array]:
        """The step, with a `Batch` on the host."""
        start = None if state.memory is None else _recall(state.memory, indices)
        shared = numbers, state.params, state.step
        packed = self._learn(Examples(images, labels, indices, rows, start), shared)
        done: tuple[TrainState, Array] = self._finish(numbers, state, indices, packed)
        return done


@jax.jit
def _recall(memory: State, indices: Array) -> State:
    """The last states of examples."""
    return {name: last[indices] for name, last in memory.items()}
