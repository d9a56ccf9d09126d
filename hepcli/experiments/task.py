"""What a configuration computes, for training, evaluating and measuring: data, network, steps, meters."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from hepcli.code import load_again, loaded_code
from hepcli.config import Config
from hepcli.data import SPLIT_NAMES, Split, SplitName, find_spec, fingerprint, held_out, load_split
from hepcli.engine import Gradient
from hepcli.errors import ConfigError, DatasetError
from hepcli.experiments.ambient import fix_ambient, fix_numbers
from hepcli.experiments.compiled import compiled_for, run_numbers
from hepcli.experiments.devices import devices_for, memory_of, number_that_fits, parts_that_fit
from hepcli.experiments.programs import make_room
from hepcli.experiments.split_meter import SplitMeter
from hepcli.networks import Network, rotate_feedback
from hepcli.training import (
    Evaluator,
    Feed,
    Layout,
    Preprocess,
    RunNumbers,
    TrainState,
    TrainStep,
    fresh_memory,
    init_state,
)

_WORTH_TRACING = (
    1e-3  # of the memory, for states and parameters of a batch: a step takes up to 150 times them
)
_OVER_TRACE = 1.45  # what XLA sets aside for the widest networks, over what their traces come to


class Task:
    """A configuration on its data set; splits are opened, and programs made, when they are first asked for.

    Args:
        config: the configuration; runs that differ only in numbers share a task.
        data_dir: where data sets are kept; None for the default folder.
        layout: the devices; None for those that `run.devices` stands for.
        trained: what the network was trained with, where that is not `config`: it decides which examples were
            trained on and which were held out.

    Raises:
        ConfigError: the configuration does not suit the data set, or nudges are complex and a part of the
            network is not holomorphic.
        CodeError: a component of the user's own is not what it must be.
        DatasetError: there is no such data set, or it is damaged.
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
        self._compiled = compiled_for(config, self.spec)
        self.network: Network = self._compiled.network
        self.preprocess: Preprocess = self._compiled.preprocess

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
        return self._compiled.num_examples

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
        batches = self._compiled.num_batches
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
        """Compute in the numbers of the configuration, and with its components, again: others have theirs."""
        fix_numbers(self.config.run.matmul_precision)
        load_again(self._code)

    def check_devices(self) -> None:
        """Check that the devices share a batch evenly, and each of them divides its share evenly.

        Raises:
            ConfigError: they do not.
        """
        batch, devices = self.config.data.batch_size, self.layout.num_devices
        taking_part = len({device.process_index for device in self.layout.devices})
        if taking_part < jax.process_count():
            raise ConfigError(
                f"run.devices = {self.config.run.devices}: only {taking_part} of {jax.process_count()} "
                "processes would have a device to train on.",
                "Use --set run.devices=0 for all devices of all processes.",
            )
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
        data, memory = self.config.data, memory_of(self.layout.devices[0])
        if memory is not None and (needed := self._step_bytes(memory)) > memory:
            parts = data.accumulate * parts_that_fit(_OVER_TRACE * needed, memory)
            raise ConfigError(
                f"data.batch_size = {data.batch_size}: a training step needs at least "
                f"{needed / 2**30:.1f} GiB of memory, but only {memory / 2**30:.1f} GiB is available.",
                f"Set data.accumulate={parts}, which processes each batch in parts (results change "
                "by rounding only), or relaxation.free_precision=bfloat16, or train a smaller network.",
            )

    def runs_that_fit(self, most: int) -> int:
        """How many of so many runs of this task can train together in the memory of a device."""
        memory = memory_of(self.layout.devices[0])
        needed = 0 if memory is None else self._step_bytes(memory // most)
        return min(most, number_that_fits(_OVER_TRACE * needed, memory)) if memory and needed else most

    def _step_bytes(self, memory: int) -> int:
        """The memory that a training step takes, known from its trace; 0 where it is far below that much."""
        image = jnp.zeros((1, *self.spec.image_shape), jnp.float32)
        state = jax.eval_shape(self.network.zero_state, image)
        params = jax.eval_shape(self.fresh_params)
        if self.config.data.batch_size * _tree_bytes(state) + _tree_bytes(params) < _WORTH_TRACING * memory:
            return 0
        return self._compiled.step_bytes(params)

    def prepare(self) -> None:
        """Open all that training needs, so that what is wrong shows before anything is written.

        Raises:
            ConfigError: a batch is larger than the split, a crop could miss the image altogether, or a step
                needs more memory than there is.
            DatasetError: the data set is missing or damaged.
        """
        _ = self._compiled.augment
        self.open_splits()
        self.check_memory()
        for name in SPLIT_NAMES:
            self.feed(name)

    def trace_own_parts(self, params: Gradient) -> None:
        """Trace the user's own components; whatever error they raise is raised."""
        self._compiled.trace_own_parts(params)

    def fresh_params(self, config: Config | None = None) -> Gradient:
        """Fresh parameters from the run's seed, feedback mixed at the initial angle."""
        config = config or self.config
        pairs = self.network.untied_pairs
        return rotate_feedback(self.unmixed_params(config), pairs, config.network.initial_angle_deg)

    def unmixed_params(self, config: Config) -> Gradient:
        """Fresh parameters from the run's seed, all kernels independent."""
        return self.network.init(jax.random.key(config.run.seed))

    def weights_as_read(self, params: Gradient, config: Config, step: int) -> Gradient:
        """The weights that the network of a run computes with after a step; `params` where they are exact."""
        if not config.hardware.changes_weights:
            return params
        return self._compiled.weights_as_read(params, np.uint32(config.run.seed), step)

    def fresh_state(
        self, config: Config, params: Mapping[str, Mapping[str, Any]] | None = None
    ) -> TrainState:
        """The state before the first step of a run of this task, or of one that starts from other weights."""
        memory = None
        if config.relaxation.persistent_state:
            memory = fresh_memory(self.network, self.spec.image_shape, self.spec.num_examples["train"])
        start = self.fresh_params(config) if params is None else {n: dict(own) for n, own in params.items()}
        return init_state(start, self.optimizer(config), memory)

    def optimizer(self, config: Config) -> optax.GradientTransformation:
        """The optimiser of a run."""
        return self._compiled.optimizer(config.optimizer.learning_rate)

    def train_step(self, configs: Sequence[Config]) -> TrainStep:
        """The step of a run, or with several configurations that of their runs together, states stacked."""
        joint = len(configs) > 1
        layout = Layout(jax.local_devices()[:1]) if joint else self.layout
        numbers = [run_numbers(config) for config in configs]
        program = self._compiled.step(layout, numbers, joint=joint)
        return partial(program, layout.replicate(_as_arrays(numbers, stacked=joint)))

    @property
    def evaluator(self) -> Evaluator:
        """Evaluates parameters on a feed."""
        return self._compiled.evaluator

    def meter(
        self,
        config: Config,
        split: SplitName,
        examples: int,
        key: str,
        chosen: NDArray[np.int64] | None = None,
    ) -> SplitMeter:
        """Measures parameters of a run on the first examples of a split, or of those of it that are chosen.

        `key` is the name of their number in errors.
        """
        meter = self._compiled.meter(config.gradient)
        return SplitMeter(meter, self.split(split), config.data.name, chosen, examples, key)


def _as_arrays(numbers: Sequence[RunNumbers], *, stacked: bool) -> RunNumbers:
    """The numbers of a run as a step takes them, or of several with an axis of runs."""
    seeds, *others = zip(*numbers, strict=True)
    arrays = [np.asarray(seeds, np.uint32), *(np.asarray(own, np.float32) for own in others)]
    return RunNumbers(*(jnp.asarray(own if stacked else own[0]) for own in arrays))


def _tree_bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
