"""A saved run as commands that read one see it: configuration, data, network and its checkpoints."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from hepcli.checkpoints import (
    CHECKPOINTS_FOLDER,
    CONFIG_FILE,
    CheckpointStore,
    Restored,
    resolve_checkpoint,
)
from hepcli.config import Config, load_config
from hepcli.data import Split, SplitName, load_split
from hepcli.errors import ConfigError
from hepcli.experiments import build
from hepcli.experiments.build_network import build_network
from hepcli.networks import GraphNetwork


class SavedRun:
    """A run folder opened for reading.

    Args:
        checkpoint: a run folder, its checkpoints/ or one step in it.
        split_name: which split is wanted.
        overrides: KEY=VALUE texts, such as relaxation.free_steps=500.
        data_dir: where data sets are kept.

    Raises:
        CheckpointError: not a run, or one without a checkpoint.
        ConfigError: an override that is not allowed.
        DatasetError: the data set is missing or damaged.
    """

    def __init__(
        self, checkpoint: Path, split_name: SplitName, overrides: Sequence[str], data_dir: Path | None
    ) -> None:
        self.checkpoint = checkpoint
        self.folder, self.named_step = resolve_checkpoint(checkpoint)
        self.config: Config = load_config(str(self.folder / CONFIG_FILE), overrides).config
        self.split: Split = load_split(self.config.data.name, split_name, data_dir)
        self.network: GraphNetwork = build_network(self.config, build.data_shape(self.split))
        self.store = CheckpointStore(self.folder / CHECKPOINTS_FOLDER)
        # Of the training split only its size matters, and only where every example has a state.
        remembers = self.config.relaxation.persistent_state
        self._remembered = (
            len(load_split(self.config.data.name, "train", data_dir).labels) if remembers else 0
        )
        self._target = jax.eval_shape(self._fresh_state)

    def _fresh_state(self) -> Any:
        optimizer, shape = build.build_optimizer_of(self.config, 1), build.data_shape(self.split)
        return build.fresh_state(self.config, self.network, shape, self._remembered, optimizer)

    def chosen_step(self, step: int | None) -> int | None:
        """The step to read: `step`, or the one the checkpoint's path names, or None for the newest.

        Raises:
            ConfigError: both are given and differ.
        """
        if step is not None and self.named_step is not None and step != self.named_step:
            raise ConfigError(
                f"{self.checkpoint} is step {self.named_step}, but --step is {step}.", "Give one of them."
            )
        return self.named_step if step is None else step

    def restore(self, step: int | None) -> Restored:
        """Read a step, or with None the newest intact one.

        Raises:
            CheckpointError: no such step, nothing intact, or of another network.
        """
        return self.store.restore(self._target, step)

    def path_of(self, step: int) -> Path:
        """The folder of a step."""
        return self.folder / CHECKPOINTS_FOLDER / str(step)
