"""A saved run as commands that read one see it: configuration, data, network and its checkpoints."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import jax

from hepcli.checkpoints import CHECKPOINTS_FOLDER, CONFIG_FILE, CheckpointStore, Restored, resolve_checkpoint
from hepcli.code import check_same, load_code
from hepcli.config import Config, differences, kept_code, load_config, read_config
from hepcli.engine import Gradient
from hepcli.errors import CheckpointError, ConfigError, OutputError
from hepcli.experiments.run_files import METRICS_FILE, SUMMARY_FILE
from hepcli.experiments.run_folder import RunFolder
from hepcli.experiments.selection import best_epoch
from hepcli.experiments.task import Task
from hepcli.experiments.unchanged import check_config, check_data, shown


class Weights(NamedTuple):
    """The part of a `TrainState` that says what a network computes."""

    params: Gradient


def _last_steps(folder: Path) -> dict[str, int]:
    """The last step that each record of a run names; what is damaged tells nothing here."""
    run, steps = RunFolder(folder), {}
    with suppress(OutputError, OSError):
        steps[SUMMARY_FILE] = (run.read_summary() or {}).get("steps")
    with suppress(OutputError, OSError):
        steps[METRICS_FILE] = [{}, *run.read_lines(METRICS_FILE)][-1].get("step")
    return {name: step for name, step in steps.items() if type(step) is int}


def test_accuracy(restored: Restored) -> float | None:
    """Top-1 on the test split at the end of the epoch that a step is the last of; None within an epoch."""
    last = restored.metadata["history"][-1:]
    return last[0]["test"]["top1"] if last and last[0]["step"] == restored.step else None


_ELSEWHERE = ("gradient.num_points", "gradient.beta_radius", "gradient.beta_sign", "gradient.adjoint_steps")
"""Keys that an evaluation does not read."""
_OF_TRAINING = (
    "network.initial_angle_deg",
    "relaxation.persistent_state",
    "homeostasis",
    "optimizer",
    "checkpoints",
    "hardware.update_step",
    "hardware.update_rounding",
    "data.batch_size",
    "data.accumulate",
    "data.augmentation",
    "data.crop_padding",
    "data.crop_border",
    "data.rand_augment_ops",
    "data.rand_augment_magnitude",
    "run.epochs",
    "run.patience",
    "run.init_from",
    "run.measure_examples",
    "run.trackers",
)
"""Keys, and whole tables, that nothing reads but training."""
EVERY_METHOD_ALLOWS = {
    "homeostasis.weight": 0.0,
    "relaxation.persistent_state": False,
    "optimizer.feedback_learning": "gradient",
}
"""Those of which some methods do not allow every value, so that a run that is opened with one may have to
change them, and the value that all allow."""


class SavedRun:
    """A run folder opened for reading.

    Args:
        checkpoint: a run folder, its checkpoints/ or one step in it.
        overrides: KEY=VALUE texts, such as relaxation.free_steps=500.
        data_dir: where data sets are kept.
        flags: dotted key to value, as `overrides`.
        code: files with own components, besides those of the run.
        reads_data: whether examples are read, which must then be those of the training.

    Raises:
        CheckpointError: not a run, or one without a checkpoint.
        CodeError: a file with own components is missing, has changed or cannot be loaded.
        ConfigError: an override that is not allowed, or a damaged config.toml.
        DatasetError: the data set is missing or damaged.
    """

    def __init__(
        self,
        checkpoint: Path,
        overrides: Sequence[str] = (),
        data_dir: Path | None = None,
        flags: Mapping[str, object] | None = None,
        code: Sequence[Path] = (),
        *,
        reads_data: bool = True,
    ) -> None:
        self.checkpoint, self.reads_data = checkpoint, reads_data
        self.folder, self.named_step = resolve_checkpoint(checkpoint)
        check_same(load_code(code), kept_code(self.folder), str(self.folder))
        self._own_config = read_config(self.folder)
        file = str(self.folder / CONFIG_FILE)
        self.config: Config = load_config(file, overrides, flags, is_new=False).config
        self._check_held_out()
        self._check_of_training()
        self.task = Task(self.config, data_dir, trained=self._own_config)
        self.store = CheckpointStore(self.folder / CHECKPOINTS_FOLDER)
        self._target = Weights(jax.eval_shape(self.task.fresh_params))

    def _check_held_out(self) -> None:
        """Check that no other number of validation examples is asked for than were held out."""
        given, own = (config.data.validation_examples for config in (self.config, self._own_config))
        if given != own:
            raise ConfigError(
                f"data.validation_examples = {given}: the run in {self.folder} was trained with {own}, which "
                "determines which examples those are.",
                "Leave it out.",
            )

    def _check_of_training(self) -> None:
        """Check that nothing is changed that would change nothing but what figures say of the run."""
        other_method = self._own_config.gradient.method != self.config.gradient.method
        for key, own, given in differences(self._own_config, self.config):
            if other_method and key in EVERY_METHOD_ALLOWS:
                continue
            if any(f"{key}.".startswith(f"{name}.") for name in _OF_TRAINING):
                raise ConfigError(
                    f"{key} = {shown(given)}: it matters only in training, and the run in {self.folder} "
                    f"was trained with {shown(own)}.",
                    "Leave it out, or train a run with it.",
                )

    def recorded_accuracy(self, restored: Restored) -> float | None:
        """`test_accuracy` of a step; None, too, where the run is opened with settings that change it."""
        changed = [key for key, *_ in differences(self._own_config, self.config)]
        return test_accuracy(restored) if set(changed) <= set(_ELSEWHERE) else None

    def restore_chosen(self, step: int | Literal["best"] | None) -> Restored:
        """Read the weights of a step, of the best one, or of that which the checkpoint's path names.

        Args:
            step: None for that of the path, or else the newest intact one.

        Raises:
            CheckpointError: as `restore`; or the best is asked for, and no epoch is over yet.
            ConfigError: as `restore`; `step` and path differ, or no validation examples are held out.
            DatasetError: as `restore`.
        """
        if step != "best":
            return self.restore(self.chosen_step(step))
        if self.named_step is not None:
            raise ConfigError(
                f"{self.checkpoint} is step {self.named_step}, but the best one was requested.",
                f"Give the run: {self.folder}.",
            )
        newest = self._newest_for_best()
        while True:
            best = self._best_step(newest)
            try:
                restored = self.restore(best)
            except CheckpointError:
                newest = self._newest_for_best()
                if self._best_step(newest) == best:
                    raise
                # A training process has found a better one meanwhile, and deleted this one.
            else:
                # The best of the damaged ones may have been better.
                return restored._replace(damaged=(*newest.damaged, *restored.damaged))

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
            ConfigError: config.toml was changed since the run was started.
            DatasetError: the data set was, and examples are read.
        """
        restored = self.store.restore(self._target, step, whole=False)
        check_config(self._own_config, restored.metadata, self.folder)
        if self.reads_data:
            check_data(self.task, restored.metadata, self.folder)
        if step is None and (missing := self.missing_step(restored.damaged)):
            restored = restored._replace(damaged=(missing, *restored.damaged))
        return restored

    def _newest_for_best(self) -> Restored:
        """The newest step, whose records tell the best: unlike metrics.jsonl they are verified with it."""
        if not self._own_config.data.validation_examples:
            raise ConfigError(
                f"{self.folder} has no best checkpoint: it was trained with data.validation_examples = 0.",
                "Use the newest checkpoint instead of the best, or train with --set "
                "data.validation_examples=N.",
            )
        return self.restore(None)

    def _best_step(self, newest: Restored) -> int:
        """The step of the epoch with the highest accuracy on the validation examples."""
        best = best_epoch(newest.metadata["history"])
        if best is None:
            what = f"No epoch of {self.folder} has finished yet."
            raise CheckpointError(what, "Use the newest checkpoint instead.")
        return int(best["step"])

    def missing_step(self, said: Sequence[str] = ()) -> str | None:
        """Say where the records go on to a step that is later than every checkpoint.

        Args:
            said: what is said of damaged steps already, this one perhaps among them.

        Returns:
            A notice; None where nothing is missing, or no record tells.
        """
        newest = max(self.store.all_steps(), default=0)
        for name, step in _last_steps(self.folder).items():
            if step > newest and not any(line.startswith(f"Step {step} ") for line in said):
                may_come = "" if name == SUMMARY_FILE else ", unless it is being saved at this moment"
                return f"Step {step} has no checkpoint, although {self.folder / name} ends there{may_come}."
        return None

    def path_of(self, step: int) -> Path:
        """The folder of a step."""
        return self.folder / CHECKPOINTS_FOLDER / str(step)
