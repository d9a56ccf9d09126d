"""From a configuration to networks, settings and optimisers: strings become functions here, once."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from hepcli.config import Config
from hepcli.data import Split
from hepcli.engine import Gradient, GradientSettings, RelaxationSettings
from hepcli.errors import ConfigError, DatasetError
from hepcli.networks import GraphNetwork, copy_gradients, rotate_feedback
from hepcli.training import (
    AUGMENTATIONS,
    Augment,
    Feed,
    Layout,
    LearningSettings,
    Normalization,
    OptimizerSettings,
    Preprocess,
    RunNumbers,
    TrainState,
    build_optimizer,
    fresh_memory,
    init_state,
    normalizer,
)


class DataShape(NamedTuple):
    """What a network must know of a data set: shape of an image (height, width, channels) and classes."""

    image: tuple[int, ...]
    num_classes: int


def data_shape(split: Split) -> DataShape:
    """The shape of a split's images and its number of classes."""
    return DataShape(tuple(split.images.shape[1:]), split.num_classes)


def build_preprocess(config: Config, shape: DataShape) -> Preprocess:
    """The normalisation of a configuration's images.

    Raises:
        ConfigError: mean or std is neither for one channel nor for all.
    """
    data, channels = config.data, shape.image[-1]
    for key, values in (("mean", data.mean), ("std", data.std)):
        if len(values) not in (1, channels):
            raise ConfigError(
                f"data.{key} = {list(values)}: images of {data.name} have {channels} channels",
                f"Give 1 or {channels} values.",
            )
    return normalizer(Normalization(data.mean, data.std, data.std_scale))


def build_augment(config: Config, shape: DataShape, steps_per_epoch: int) -> Augment | None:
    """What is done to training images at random; None for nothing.

    Raises:
        ConfigError: a crop could miss the image altogether.
    """
    data, (height, width, _) = config.data, shape.image
    if data.augmentation == "flip_crop" and data.crop_padding >= min(height, width):
        raise ConfigError(
            f"data.crop_padding = {data.crop_padding}: images of {data.name} have {height} × {width} pixels",
            f"Give less than {min(height, width)}, else crops are black all over.",
        )
    return AUGMENTATIONS[data.augmentation](steps_per_epoch, data.crop_padding)


def init_params(config: Config, network: GraphNetwork) -> Gradient:
    """Fresh parameters from the run's seed, feedback mixed at the initial angle."""
    params = network.init(jax.random.key(config.run.seed))
    return rotate_feedback(params, network.pairs, config.network.initial_angle_deg)


def fresh_state(
    config: Config,
    network: GraphNetwork,
    shape: DataShape,
    num_examples: int,
    optimizer: optax.GradientTransformation,
) -> TrainState:
    """The state of a run before its first step, from its seed."""
    memory = None
    if config.relaxation.persistent_state:
        memory = fresh_memory(network, shape.image, num_examples)
    return init_state(init_params(config, network), optimizer, memory)


def relaxation_settings(config: Config) -> RelaxationSettings:
    """The [relaxation] table for the engine."""
    return RelaxationSettings(**config.relaxation.model_dump(exclude={"persistent_state"}))


def gradient_settings(config: Config) -> GradientSettings:
    """The [gradient] table for the engine."""
    return GradientSettings(**config.gradient.model_dump())


def learning_settings(config: Config, network: GraphNetwork) -> LearningSettings:
    """What a training step computes."""
    copies = config.optimizer.feedback_learning == "kolen_pollack"
    return LearningSettings(
        relaxation_settings(config),
        gradient_settings(config),
        config.homeostasis.weight,
        config.homeostasis.num_draws,
        config.run.seed,
        partial(copy_gradients, pairs=network.pairs) if copies else None,
    )


def steps_per_epoch(config: Config, num_examples: int) -> int:
    """Whole batches in an epoch.

    Raises:
        ConfigError: a batch is larger than the split.
    """
    batches = num_examples // config.data.batch_size
    if batches == 0:
        raise ConfigError(
            f"data.batch_size = {config.data.batch_size}: {config.data.name} has only {num_examples} "
            "training examples",
            f"Choose at most {num_examples}.",
        )
    return batches


def build_optimizer_of(
    config: Config, total_steps: int, learning_rate: Array | None = None
) -> optax.GradientTransformation:
    """The optimiser of a configuration.

    Args:
        config: the configuration.
        total_steps: what the cosine schedule decays over.
        learning_rate: traced, instead of the configuration's.

    Returns:
        The optimiser.
    """
    given = config.optimizer.model_dump()
    if given.pop("feedback_learning") == "fixed":
        network = config.network
        fixed = dict.fromkeys(filter(network.is_top_down, network.connections), 0.0)
        given["learning_rate_multipliers"] = given["learning_rate_multipliers"] | fixed
    settings = OptimizerSettings(**given, total_steps=total_steps)
    return build_optimizer(
        settings if learning_rate is None else settings._replace(learning_rate=learning_rate)
    )


def run_numbers(configs: Sequence[Config]) -> RunNumbers:
    """What runs of one compiled step differ in."""
    return RunNumbers(
        jnp.asarray([config.run.seed for config in configs], jnp.uint32),
        jnp.asarray([config.gradient.beta_radius for config in configs], jnp.float32),
        jnp.asarray([config.homeostasis.weight for config in configs], jnp.float32),
        jnp.asarray([config.optimizer.learning_rate for config in configs], jnp.float32),
    )


def build_feed(split: Split, layout: Layout) -> Feed:
    """The examples of a split on the devices, or streamed where they are too large.

    Raises:
        DatasetError: they should fit, but the memory is taken.
    """
    try:
        return Feed(split.images, split.labels, layout)
    except jax.errors.JaxRuntimeError as error:
        raise DatasetError(
            f"The images ({split.images.nbytes / 2**20:.0f} MiB) do not fit the device's memory.",
            "Free the device, or run on the CPU: JAX_PLATFORMS=cpu hep …",
        ) from error


def check_devices(config: Config, layout: Layout) -> None:
    """Check that the devices share a batch evenly.

    Raises:
        ConfigError: they do not.
    """
    batch, devices = config.data.batch_size, layout.num_devices
    if batch % devices:
        raise ConfigError(
            f"data.batch_size = {batch}: {devices} devices cannot share it evenly.",
            f"Choose a multiple of {devices}, or fewer devices: CUDA_VISIBLE_DEVICES=0 hep …",
        )


def plain(record: Mapping[str, object]) -> dict[str, object]:
    """A mapping as an ordinary dictionary, its mappings too, ready for JSON."""
    return {key: plain(value) if isinstance(value, Mapping) else value for key, value in record.items()}
