"""A saved run as commands that read one see it: configuration, data, network and its checkpoints."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from hepcli.checkpoints import (
    CHECKPOINTS_FOLDER,
    CONFIG_FILE,
    CheckpointStore,
    Restored,
    resolve_checkpoint,
)
from hepcli.config import Config, load_config
from hepcli.engine import Gradient
from hepcli.errors import ConfigError
from hepcli.experiments.task import Task


class Weights(NamedTuple):
    """The part of a `TrainState` that says what a network computes."""

    params: Gradient


class SavedRun:
    """A run folder opened for reading.

    Args:
        checkpoint: a run folder, its checkpoints/ or one step in it.
        overrides: KEY=VALUE texts, such as relaxation.free_steps=500.
        data_dir: where data sets are kept.

    Raises:
        CheckpointError: not a run, or one without a checkpoint.
        ConfigError: an override that is not allowed.
    """

    def __init__(self, checkpoint: Path, overrides: Sequence[str] = (), data_dir: Path | None = None) -> None:
        self.checkpoint = checkpoint
        self.folder, self.named_step = resolve_checkpoint(checkpoint)
        self.config: Config = load_config(str(self.folder / CONFIG_FILE), overrides).config
        self.task = Task(self.config, data_dir)
        self.store = CheckpointStore(self.folder / CHECKPOINTS_FOLDER)
        self._target = Weights(jax.eval_shape(self.task.fresh_params))

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
        """Read the weights of a step, or with None of the newest intact one.

        Raises:
            CheckpointError: no such step, nothing intact, or of another network.
        """
        return self.store.restore(self._target, step, whole=False)

    def path_of(self, step: int) -> Path:
        """The folder of a step."""
        return self.folder / CHECKPOINTS_FOLDER / str(step)
