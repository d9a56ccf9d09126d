"""What is compiled for a configuration, shared by the runs of a process that differ in numbers alone."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import NamedTuple

import jax
import numpy as np
import optax
from jax import Array

from hepcli.config import Config, config_error, names_in, nudge_faults, without_numbers
from hepcli.data import DatasetSpec
from hepcli.engine import Gradient, estimator_of
from hepcli.errors import ConfigError
from hepcli.experiments.own_parts import check_own_activations, check_own_network
from hepcli.networks import Network, build_network, copy_gradients
from hepcli.settings import AUGMENTATIONS, ESTIMATORS, MEASURES, GradientSettings, has_own_parts
from hepcli.training import (
    AsymmetryMeter,
    Augment,
    Augmentation,
    Evaluator,
    Layout,
    LearningSettings,
    MeterSettings,
    Preprocess,
    RunNumbers,
    StepProgram,
    build_optimizer,
    make_step_program,
    normalizer,
    step_bytes,
    weights_as_read,
)

_MOST_KEPT = 4  # configurations; each takes about 25 MB


class Sizes(NamedTuple):
    """What programs depend on of a data set."""

    image_shape: tuple[int, int, int]
    num_classes: int
    num_training: int


class Compiled:
    """The network of a configuration and its programs, each made when it is first asked for.

    Args:
        config: the configuration, with its numbers only where they are compiled in.
        sizes: of its data set.
        fixes_numbers: whether the step of a single run has them compiled in: own components may be written
            for numbers of Python, not for traced ones.

    Raises:
        ConfigError: the configuration does not suit the data set, or nudges are complex and a part of the
            network is not holomorphic.
        CodeError: a component of the user's own is not what it must be.
    """

    def __init__(self, config: Config, sizes: Sizes, *, fixes_numbers: bool = False) -> None:
        self._config, self._sizes, self._fixes_numbers = config, sizes, fixes_numbers
        image = sizes.image_shape
        if misfits := config.network.misfits(image, sizes.num_classes):
            raise config_error(misfits)
        check_own_activations(config)
        network = build_network(config.network, image, sizes.num_classes)
        check_own_network(network)
        self.network: Network = network_of_method(network, config.gradient)
        self.preprocess: Preprocess = _preprocess(config, channels=image[-1])
        self._steps: dict[object, StepProgram] = {}
        self._meters: dict[object, AsymmetryMeter] = {}

    @property
    def num_examples(self) -> int:
        """Examples that are trained on."""
        return self._sizes.num_training - self._config.data.validation_examples

    @property
    def num_batches(self) -> int:
        """Whole batches in an epoch; 0 where there are fewer examples than in one."""
        return self.num_examples // self._config.data.batch_size

    def optimizer(self, learning_rate: float | Array) -> optax.GradientTransformation:
        """The optimiser of a run."""
        config = self._config
        fixed: list[str] = []
        if config.optimizer.feedback_learning == "fixed":
            fixed = [name for name in config.network.connections if config.network.is_top_down(name)]
        return build_optimizer(config.optimizer, config.run.epochs * self.num_batches, learning_rate, fixed)

    def step(self, layout: Layout, numbers: Sequence[RunNumbers], *, joint: bool) -> StepProgram:
        """The training step of a run, or of several at once; see `make_step_program`."""
        fixed = numbers[0] if self._fixes_numbers and not joint else None
        key = layout, joint, fixed
        if key not in self._steps:
            self._steps[key] = make_step_program(
                self.network, self._sizes.num_classes, self._learning, self.optimizer, self.preprocess,
                self.augment, layout, joint=joint, fixed=fixed,
            )  # fmt: skip
        return self._steps[key]

    def step_bytes(self, params: Gradient) -> int:
        """The memory that a training step takes; see `hepcli.training.step_bytes`."""
        return step_bytes(
            self.network, self._sizes.num_classes, self._learning, self.preprocess, params,
            self._sizes.image_shape, self._config.data.batch_size,
            run_numbers(self._config) if self._fixes_numbers else None,
        )  # fmt: skip

    def trace_own_parts(self, params: Gradient) -> None:
        """Trace what parts of the user's own take part in: their errors show before anything is computed.

        Args:
            params: parameters, or their shapes.
        """
        if self._fixes_numbers:
            self.step_bytes(params)
            optimizer = self.optimizer(self._config.optimizer.learning_rate)
            jax.eval_shape(lambda tree: optimizer.update(tree, optimizer.init(tree), tree), params)
        measures = self._config.code.files or self._config.run.measure_examples  # of this run
        has_own = measures and any(map(MEASURES.is_own, MEASURES))
        if has_own or ESTIMATORS.is_own(self._config.gradient.method):  # which measures run in float64
            self.meter(self._config.gradient).trace(params, self._sizes.image_shape)

    @cached_property
    def evaluator(self) -> Evaluator:
        """Evaluates parameters on a feed."""
        return Evaluator(
            self.network,
            self._sizes.num_classes,
            self._config.relaxation,
            self._config.homeostasis.num_draws,
            self.preprocess,
        )

    def meter(self, gradient: GradientSettings) -> AsymmetryMeter:
        """Measures what an estimator, with all its numbers, does in this network."""
        key = gradient, *MEASURES.values()  # to which users may have added theirs
        if key not in self._meters:
            settings = MeterSettings(self._config.relaxation, gradient)
            self._meters[key] = AsymmetryMeter(
                self.network, self._sizes.num_classes, settings, self.preprocess
            )
        return self._meters[key]

    @cached_property
    def weights_as_read(self) -> Callable[[Gradient, np.uint32, int], Gradient]:
        """(parameters, seed, step) -> the weights that the network computes with; see `weights_as_read`."""
        hardware = self._config.hardware
        return jax.jit(lambda params, seed, step: weights_as_read(params, hardware, seed, step))

    @cached_property
    def augment(self) -> Augment | None:
        """What is done to training images at random; None for nothing.

        Raises:
            ConfigError: a crop could miss the image altogether; RandAugment has no colours to change in such
                images.
        """
        data, (height, width, channels) = self._config.data, self._sizes.image_shape
        if data.augmentation != "none" and data.crop_padding >= min(height, width):
            raise ConfigError(
                f"data.crop_padding = {data.crop_padding}: images of {data.name} have {height} × {width} "
                "pixels",
                f"Choose a value below {min(height, width)}; otherwise crops may show nothing of the image.",
            )
        if data.augmentation == "rand_augment" and channels not in (1, 3):
            raise ConfigError(
                f"data.augmentation = rand_augment: images of {data.name} have {channels} channels",
                "It needs 1 (grey) or 3 (red, green, blue); data.augmentation=flip_crop takes any number.",
            )
        augmentation: Augmentation = AUGMENTATIONS[data.augmentation]
        return augmentation(self.num_batches, data)

    @property
    def _learning(self) -> LearningSettings:
        config = self._config
        copies = config.optimizer.feedback_learning == "kolen_pollack"
        return LearningSettings(
            config.relaxation,
            config.gradient,
            config.homeostasis,
            partial(copy_gradients, pairs=self.network.untied_pairs) if copies else None,
            config.data.accumulate,
            config.hardware,
        )


def run_numbers(config: Config) -> RunNumbers:
    """What steps are not compiled for, as Python numbers."""
    return RunNumbers(
        config.run.seed,
        config.gradient.beta_radius,
        config.homeostasis.weight,
        config.optimizer.learning_rate,
    )


_kept: OrderedDict[object, Compiled] = OrderedDict()


def compiled_for(config: Config, spec: DatasetSpec) -> Compiled:
    """What is compiled for a configuration: that of the latest runs which differ in numbers alone, or anew.

    With own components it is always made anew: their names may stand for others than before.

    Raises:
        ConfigError, CodeError: as `Compiled`.
    """
    sizes = Sizes(spec.image_shape, spec.num_classes, spec.num_examples["train"])
    if has_own_parts(names_in(config)):
        return Compiled(config, sizes, fixes_numbers=True)
    config = without_numbers(config)
    key = config.model_dump_json(), sizes
    if key not in _kept:
        _kept[key] = Compiled(config, sizes)
    _kept.move_to_end(key)
    while len(_kept) > _MOST_KEPT:
        _kept.popitem(last=False)
    return _kept[key]


def network_of_method(network: Network, gradient: GradientSettings) -> Network:
    """The network as an estimator uses it: feedforward ones leave out its feedback.

    Raises:
        ConfigError: nudges are complex, and a part of the user's own is not holomorphic; or the method
            contrasts energies, and connections between layers pool.
    """
    if faults := nudge_faults(network.real_only, gradient):
        raise config_error(faults)
    estimator = estimator_of(gradient.method)
    if estimator.is_contrastive and not network.linear_drive:
        raise ConfigError(
            f"gradient.method = {gradient.method}: its energy is not defined if a connection between "
            "layers has pooling.",
            "Use gradient.method=hep, which works with any layer, or layers without pooling "
            "(pool_size = pool_stride = 1).",
        )
    return network.without_feedback if estimator.is_feedforward else network


def _preprocess(config: Config, channels: int) -> Preprocess:
    """The normalisation of images.

    Raises:
        ConfigError: mean or std is neither for one channel nor for all.
    """
    data = config.data
    for key, values in (("mean", data.mean), ("std", data.std)):
        if len(values) not in (1, channels):
            raise ConfigError(
                f"data.{key} = {list(values)}: the number of channels of {data.name} is {channels}",
                f"Give {'1 value' if channels == 1 else f'1 or {channels} values'}.",
            )
    return normalizer(data)
