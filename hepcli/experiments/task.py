"""What a configuration computes, for training, evaluating and measuring: data, network, steps, meters."""

import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from numpy.typing import NDArray

from hepcli.code import defined_at, load_again, loaded_code
from hepcli.config import Config, config_error, nudge_problems
from hepcli.data import SPLIT_NAMES, Split, SplitName, find_spec, fingerprint, held_out, load_split
from hepcli.engine import Gradient, estimator_of
from hepcli.errors import CodeError, ConfigError, DatasetError
from hepcli.experiments.ambient import fix_ambient, fix_numbers
from hepcli.experiments.devices import devices_for, memory_limit, parts_that_fit
from hepcli.experiments.programs import make_room
from hepcli.experiments.split_meter import SplitMeter
from hepcli.networks import (
    Network,
    build_network,
    copy_gradients,
    derives_its_value,
    drives_linearly,
    looks_holomorphic,
    rotate_feedback,
)
from hepcli.settings import ACTIVATIONS, AUGMENTATIONS, NOT_HOLOMORPHIC, GradientSettings
from hepcli.training import (
    Augment,
    Augmentation,
    Evaluator,
    Feed,
    Layout,
    LearningSettings,
    Preprocess,
    RunNumbers,
    TrainState,
    TrainStep,
    build_optimizer,
    fresh_memory,
    init_state,
    make_joint_step,
    make_train_step,
    normalizer,
    step_bytes,
    weights_as_read,
)

_WORTH_TRACING = (
    1e-3  # of the memory, for states and parameters of a batch: a step takes up to 150 times them
)
_OVER_TRACE = 1.45  # what XLA sets aside for the widest networks, over what their traces come to


def network_of_method(network: Network, gradient: GradientSettings) -> Network:
    """The network as an estimator uses it: feedforward ones leave out its feedback.

    Raises:
        ConfigError: nudges are complex, and a part of the user's own is not holomorphic; or the method
            contrasts energies, and connections between layers pool.
    """
    if problems := nudge_problems(network.real_only, gradient):
        raise config_error(problems)
    estimator = estimator_of(gradient.method)
    if estimator.is_contrastive and not network.linear_drive:
        raise ConfigError(
            f"gradient.method = {gradient.method}: its energy is not defined where a connection between "
            "layers pools.",
            "Use gradient.method=hep, which works with any layer, or layers without pooling "
            "(pool_size = pool_stride = 1).",
        )
    return network.without_feedback if estimator.is_feedforward else network


class Task:
    """A configuration on its data set; splits are opened, and programs made, when they are first asked for.

    Args:
        config: the configuration; runs that differ only in numbers share a task.
        data_dir: where data sets are kept; None for the default folder.
        layout: the devices; None for those that `run.devices` stands for.
        trained: what the network was trained with, where that is not `config`: it decides which examples were
            trained on and which were held out.

    Raises:
        ConfigError: the configuration does not suit the data set, or complex nudges what is not holomorphic.
        CodeError: a component of the user's own is not what it must be.
    """

    def __init__(
        self,
        config: Config,
        data_dir: Path | None = None,
        layout: Layout | None = None,
        trained: Config | None = None,
    ) -> None:
        fix_ambient(config.run.devices, config.run.matmul_precision)
        self._code = loaded_code(config.code.files)
        make_room()
        self.config, self._data_dir, self._layout = config, data_dir, layout
        self.trained = trained or config
        self.spec = find_spec(config.data.name, data_dir)
        self._splits: dict[SplitName, Split] = {}
        self._feeds: dict[SplitName, Feed] = {}
        image, num_classes = self.spec.image_shape, self.spec.num_classes
        if misfits := config.network.misfits(image, num_classes):
            raise config_error(misfits)
        _check_own_activations(config)
        network = build_network(config.network, image, num_classes)
        _check_own_parts(network)
        self.network: Network = network_of_method(network, config.gradient)
        self.preprocess: Preprocess = _preprocess(config, channels=image[-1])

    @cached_property
    def layout(self) -> Layout:
        """The devices."""
        return self._layout or Layout(devices_for(self.config, self.network))

    def split(self, name: SplitName) -> Split:
        """A split.

        Raises:
            DatasetError: the data set is missing or damaged.
        """
        if name not in SPLIT_NAMES:
            raise ConfigError(f"split {name!r} is not a split of a data set.", "Choose train or test.")
        if name not in self._splits:
            self._splits[name] = load_split(self.config.data.name, name, self._data_dir)
        return self._splits[name]

    @cached_property
    def fingerprint(self) -> str | None:
        """The SHA-256 of the data set; None for official ones."""
        return fingerprint(self.spec)

    def open_splits(self) -> None:
        """Open all splits; raises DatasetError where one is missing or damaged."""
        for name in SPLIT_NAMES:
            self.split(name)

    def feed(self, name: SplitName) -> Feed:
        """The examples of a split on the devices, or streamed where they are too large.

        Raises:
            DatasetError: they should fit, but the memory is taken; or as `split`.
        """
        if name not in self._feeds:
            split = self.split(name)
            try:
                self._feeds[name] = Feed(split.images, split.labels, self.layout)
            except jax.errors.JaxRuntimeError as error:
                raise DatasetError(
                    f"The images ({split.images.nbytes / 2**20:.0f} MiB) do not fit into the device's "
                    "memory.",
                    "Free some memory on the device, or run on the CPU: JAX_PLATFORMS=cpu hep …",
                ) from error
        return self._feeds[name]

    @property
    def num_examples(self) -> int:
        """Examples that are trained on."""
        return self.spec.num_examples["train"] - self.config.data.validation_examples

    def held_out(self, seed: int) -> NDArray[np.int64]:
        """The training examples that a run of that seed keeps for validation, ascending; perhaps none.

        Raises:
            ConfigError: of a class there would be none, or none left.
            DatasetError: the data set is missing or damaged.
        """
        return held_out(self.split("train").labels, self.config.data.validation_examples, seed)

    @property
    def num_batches(self) -> int:
        """Whole batches in an epoch.

        Raises:
            ConfigError: a batch is larger than the split.
        """
        batches = self.num_examples // self.config.data.batch_size
        if batches <= 0:
            if self.config.data.validation_examples:
                self.held_out(self.config.run.seed)  # they may be more than there are
            raise ConfigError(
                f"data.batch_size = {self.config.data.batch_size}: {self.spec.name} has only "
                f"{self.num_examples} examples to train on",
                f"Choose at most {self.num_examples}.",
            )
        return batches

    def make_current(self) -> None:
        """Compute in the numbers of the configuration, and with its own parts, again: others have theirs."""
        fix_numbers(self.config.run.matmul_precision)
        load_again(self._code)

    def check_devices(self) -> None:
        """Check that the devices share a batch evenly, and each of them divides its share evenly.

        Raises:
            ConfigError: they do not.
        """
        batch, devices = self.config.data.batch_size, self.layout.num_devices
        parts = self.config.data.accumulate
        if batch % (parts * devices) and batch % devices == 0:
            raise ConfigError(
                f"data.accumulate = {parts}: it must divide the {batch // devices} examples of a batch on "
                f"each device ({devices} in use).",
                f"Choose a divisor of {batch // devices}.",
            )
        if batch % devices:
            raise ConfigError(
                f"data.batch_size = {batch}: {devices} devices cannot share it evenly.",
                f"Choose a multiple of {devices}, or fewer devices, such as --set run.devices=1.",
            )

    def check_memory(self) -> None:
        """Check, before anything is compiled, that a training step can fit a processor's memory.

        Raises:
            ConfigError: it cannot.
        """
        if self.layout.devices[0].platform != "cpu":
            return  # a GPU says what it lacks before it computes
        data, memory = self.config.data, memory_limit()
        image = jnp.zeros((1, *self.spec.image_shape), jnp.float32)
        state = jax.eval_shape(self.network.zero_state, image)
        params = jax.eval_shape(self.fresh_params)
        if data.batch_size * _tree_bytes(state) + _tree_bytes(params) < _WORTH_TRACING * memory:
            return
        needed = step_bytes(
            self.network, self.spec.num_classes, self._learning(self.config), self.preprocess, params,
            self.spec.image_shape, data.batch_size,
        )  # fmt: skip
        if needed > memory:
            parts = data.accumulate * parts_that_fit(_OVER_TRACE * needed, memory)
            raise ConfigError(
                f"data.batch_size = {data.batch_size}: a training step needs at least "
                f"{needed / 2**30:.1f} GiB of memory, and there are {memory / 2**30:.1f} GiB.",
                f"Set data.accumulate={parts}, which takes each batch in parts (results change "
                "by rounding only), or relaxation.free_precision=bfloat16, or train a smaller network.",
            )

    def prepare(self) -> None:
        """Open all that training needs, so that what is wrong shows before anything is written.

        Raises:
            ConfigError: a batch is larger than the split, a crop could miss the image altogether, or a step
                needs more memory than there is.
            DatasetError: the data set is missing or damaged.
        """
        self._augment()
        self.open_splits()
        self.check_memory()
        for name in SPLIT_NAMES:
            self.feed(name)

    def fresh_params(self, config: Config | None = None) -> Gradient:
        """Fresh parameters from the run's seed, feedback mixed at the initial angle."""
        config = config or self.config
        params = self.network.init(jax.random.key(config.run.seed))
        return rotate_feedback(params, self.network.untied_pairs, config.network.initial_angle_deg)

    def weights_as_read(self, params: Gradient, config: Config, step: int) -> Gradient:
        """The weights that the network of a run computes with after a step; `params` where they are exact."""
        if not config.hardware.changes_weights:
            return params
        return self._read(params, np.uint32(config.run.seed), step)

    @cached_property
    def _read(self) -> Callable[[Gradient, np.uint32, int], Gradient]:
        hardware = self.config.hardware
        return jax.jit(lambda params, seed, step: weights_as_read(params, hardware, seed, step))

    def fresh_state(self, config: Config) -> TrainState:
        """The state before the first step of a run of this task."""
        memory = None
        if config.relaxation.persistent_state:
            memory = fresh_memory(self.network, self.spec.image_shape, self.spec.num_examples["train"])
        return init_state(self.fresh_params(config), self.optimizer(config), memory)

    def optimizer(self, config: Config, learning_rate: Array | None = None) -> optax.GradientTransformation:
        """The optimiser of a run, or of runs together with a traced learning rate."""
        network, settings = config.network, config.optimizer
        fixed = [name for name in network.connections if network.is_top_down(name)]
        return build_optimizer(
            settings,
            config.run.epochs * self.num_batches,
            learning_rate,
            fixed if settings.feedback_learning == "fixed" else (),
        )

    def train_step(self, configs: Sequence[Config]) -> TrainStep:
        """The step of a run, or with several configurations that of their runs together, states stacked."""
        first = configs[0]
        learning = self._learning(first)
        augment = self._augment()
        if len(configs) == 1:
            return make_train_step(
                self.network, self.spec.num_classes, learning, self.optimizer(first),
                self.preprocess, augment, self.layout,
            )  # fmt: skip
        return make_joint_step(
            self.network, self.spec.num_classes, learning, partial(self.optimizer, first),
            _numbers(configs), self.preprocess, augment,
        )  # fmt: skip

    @cached_property
    def evaluator(self) -> Evaluator:
        """Evaluates parameters on a feed."""
        config = self.config
        return Evaluator(
            self.network,
            self.spec.num_classes,
            config.relaxation,
            config.homeostasis.num_draws,
            self.preprocess,
        )

    def meter(self, config: Config, split: SplitName, examples: int, key: str) -> SplitMeter:
        """Measures parameters of a run on the first examples of a split; `key` is their number in errors."""
        return SplitMeter(config, self.network, self.preprocess, self.split(split), examples, key)

    def _learning(self, config: Config) -> LearningSettings:
        copies = config.optimizer.feedback_learning == "kolen_pollack"
        return LearningSettings(
            config.relaxation,
            config.gradient,
            config.homeostasis,
            config.run.seed,
            partial(copy_gradients, pairs=self.network.untied_pairs) if copies else None,
            config.data.accumulate,
            config.hardware,
        )

    def _augment(self) -> Augment | None:
        """What is done to training images at random; None for nothing.

        Raises:
            ConfigError: a crop could miss the image altogether; RandAugment has no colours to change in such
                images.
        """
        data, (height, width, channels) = self.config.data, self.spec.image_shape
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


def _check_own_activations(config: Config) -> None:
    """Check what the user's own activations return, and find out which are not holomorphic.

    Raises:
        CodeError: one changes the shape or the type of what it is given.
    """
    for name in filter(ACTIVATIONS.is_own, dict.fromkeys(config.network.activations.values())):
        function = ACTIVATIONS[name]
        given = jax.eval_shape(lambda: jnp.zeros((2, 3), jnp.float32))
        found = jax.eval_shape(function, given)
        if (getattr(found, "shape", None), getattr(found, "dtype", None)) != (given.shape, given.dtype):
            raise CodeError(
                f"{defined_at(function)}: activation {name} makes {found} of {given}.",
                "It acts on each element: return an array of the same shape and type.",
            )
        if not looks_holomorphic(function):
            NOT_HOLOMORPHIC.add(name)


def _check_own_parts(network: Network) -> None:
    """Check that own kinds of layers are linear where they say so, and that an own loss has its derivative.

    Raises:
        CodeError: one is not, or it has not.
    """
    loss = network.own_loss
    if loss is not None and not derives_its_value(loss, network.num_classes):
        raise CodeError(
            f"{defined_at(loss.derivative)}: the derivative of loss {network.loss_name} is not that of its "
            "value.",
            "Correct one of the two: learning follows the derivative, and what is reported is the value.",
        )
    for connection in network.of_own_kind:
        if connection.kind.is_linear(connection) and not drives_linearly(connection):
            raise CodeError(
                f"layer kind {connection.layer.kind}: connection {connection.name} is not linear in the "
                "activities, although is_linear says that it is.",
                "Correct one of the two; estimators take short cuts where a drive is linear.",
            )


def _tree_bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _preprocess(config: Config, channels: int) -> Preprocess:
    """The normalisation of images.

    Raises:
        ConfigError: mean or std is neither for one channel nor for all.
    """
    data = config.data
    for key, values in (("mean", data.mean), ("std", data.std)):
        if len(values) not in (1, channels):
            raise ConfigError(
                f"data.{key} = {list(values)}: images of {data.name} have {channels} channels",
                f"Give {'1 value' if channels == 1 else f'1 or {channels} values'}.",
            )
    return normalizer(data)


def _numbers(configs: Sequence[Config]) -> RunNumbers:
    """What runs of one compiled step differ in."""
    return RunNumbers(
        jnp.asarray([config.run.seed for config in configs], jnp.uint32),
        jnp.asarray([config.gradient.beta_radius for config in configs], jnp.float32),
        jnp.asarray([config.homeostasis.weight for config in configs], jnp.float32),
        jnp.asarray([config.optimizer.learning_rate for config in configs], jnp.float32),
    )
