"""A run in its folder: its state, its records, and how it is saved and resumed."""

import platform
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from hepcli.checkpoints import CheckpointStore
from hepcli.config import Config, config_hash, flatten
from hepcli.data import epoch_order
from hepcli.engine import estimator_of
from hepcli.errors import ConfigError, OutputError
from hepcli.experiments.figures import attempt
from hepcli.experiments.records import EpochDone, Finished, Interrupted, RunStarted, newer_line
from hepcli.experiments.run_folder import METRICS_FILE, SUMMARY_FILE, TIMING_FILE, RunFolder
from hepcli.experiments.split_meter import in_short
from hepcli.experiments.task import Task
from hepcli.networks import weight_angle_deg
from hepcli.training import TrainState, check_finite, finite_or_none, kernel_stds, means, zero_totals

_TIMED = {"epoch", "seconds", "images_per_second"}

OLDER_LEAVES = {
    ".totals['passes']": ".totals['sweeps']",
    ".totals['settled']": ".totals['converged']",
    ".totals['nudged_settled']": ".totals['nudged_converged']",
    ".totals['signal']": None,
    ".totals['unsettled_signal']": None,
}
"""What leaves of a state were called in checkpoints of hepcli 0.1; None where there were none."""


class Run:
    """A run in its folder: state and history."""

    def __init__(self, config: Config, folder: RunFolder, data_dir: Path | None, task: Task) -> None:
        self.config, self.folder, self.data_dir, self.task = config, folder, data_dir, task
        self.num_batches = task.num_batches
        task.prepare()
        self.state: TrainState = task.layout.replicate(task.fresh_state(config))
        self.history: list[dict[str, Any]] = []
        self.timing: list[dict[str, Any]] = []
        self.step = 0
        count = config.run.measure_examples
        self._meter = task.meter("test", count, "run.measure_examples =") if count else None

    def open_store(self) -> CheckpointStore:
        """The run's checkpoints."""
        kept = self.config.checkpoints
        return CheckpointStore(
            self.folder.checkpoints,
            keep_latest=kept.keep_latest,
            keep_best=kept.keep_best,
            keep_every_steps=kept.keep_every_epochs * self.num_batches,
        )

    def start(self, store: CheckpointStore) -> RunStarted:
        """Save the state before the first step: a run can always be resumed."""
        self.save(store)
        return RunStarted(self.folder.path, self.config.run.epochs, 0, (), tuple(self.folder.notices))

    def restore(self, store: CheckpointStore, step: int | None = None) -> RunStarted:
        """Go back to the newest intact checkpoint, or that of a step, and the records of the run with it."""
        restored = store.restore(self.state, step, older=OLDER_LEAVES)
        self._check_config(restored.metadata.get("config"))
        self.state = self.task.layout.replicate(restored.state)
        self.step = restored.step
        self.history = [newer_line(line) for line in restored.metadata["history"]]
        done = len(self.history)
        self.folder.rewrite_lines(METRICS_FILE, self.history)
        notices = self.folder.notices + [
            f"{line} Continuing from step {restored.step}." for line in restored.damaged
        ]
        try:
            lines = self.folder.read_lines(TIMING_FILE)
        except OutputError as error:
            lines = []
            notices.append(f"{error.what} How long the epochs before took is lost.")
        complete = all(_TIMED.issubset(line) for line in lines)
        if not complete:
            notices.append(f"{self.folder.path / TIMING_FILE} lacks entries: how long epochs took is lost.")
        self.timing = [line for line in lines if complete and line["epoch"] <= done]
        self.folder.rewrite_lines(TIMING_FILE, self.timing)
        return RunStarted(self.folder.path, self.config.run.epochs, done, tuple(self.history), tuple(notices))

    def _check_config(self, trained: dict[str, Any] | None) -> None:
        """Check that config.toml still says what the checkpoint was trained with; older ones do not tell.

        Raises:
            ConfigError: it was edited.
        """
        before = {} if trained is None else flatten(trained)
        for key, value in flatten(self.config.model_dump(mode="json")).items():
            if key in before and before[key] != value and key not in ("run.epochs", "run.devices"):
                raise ConfigError(
                    f"{key} = {value}: the run in {self.folder.path} was started with {before[key]}, and its "
                    "config.toml was changed since.",
                    "Put the value back, or start anew with another --out.",
                )

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The order in which an epoch visits the examples."""
        return epoch_order(self.config.run.seed, epoch, self.task.num_examples)

    def save(self, store: CheckpointStore, metric: float | None = None) -> None:
        """Save the state in the background, with the records up to here; never a diverged one."""
        check_finite(self.step, self.state.totals["loss"])
        if self.folder.writes:
            metadata = {"history": self.history, "config": self.config.model_dump(mode="json")}
            store.save(self.step, self.state, metadata, metric)

    def finish_epoch(self, store: CheckpointStore, epoch: int, seconds: float, rate: float) -> EpochDone:
        """Evaluate, record and save at the end of an epoch."""
        metrics = self._measure(epoch)
        self.state = self.state._replace(totals=self.task.layout.replicate(zero_totals()))
        self.history.append(metrics)
        self.timing.append({"epoch": epoch, "seconds": seconds, "images_per_second": rate})
        self.folder.append_line(METRICS_FILE, metrics)
        self.folder.append_line(TIMING_FILE, self.timing[-1])
        self.save(store, metric=metrics["test"]["top1"])
        return EpochDone(metrics, seconds, rate)

    def _measure(self, epoch: int) -> dict[str, Any]:
        """The line of an epoch: a pure function of configuration and data."""
        params, task = self.state.params, self.task
        has_nudged = estimator_of(self.config.gradient.method).has_nudged_record
        trained = means(self.state.totals, nudged=has_nudged)
        totals, homeostatic = task.evaluator(params, task.feed("test"), self.config.data.eval_batch_size)
        by_pair = weight_angle_deg(params, task.network.pairs)
        angles = {name: finite_or_none(float(angle)) for name, angle in by_pair.items()}
        record = {
            "epoch": epoch,
            "step": self.step,
            "train": trained,
            "test": means(totals, nudged=False),
            "homeostatic_loss": finite_or_none(float(homeostatic)),
            "weight_angle_deg": angles.get("total"),
            "weight_angle_deg_by_pair": {name: a for name, a in angles.items() if name != "total"},
            "kernel_std": kernel_stds(params),
        }
        if self._meter is not None:
            measures = self._meter.measures(jax.tree.map(np.asarray, params))
            record["asymmetry"] = in_short(measures, self.config.run.measure_examples)
        return record

    def interrupt(self, store: CheckpointStore) -> Interrupted:
        """Save, and say how to go on."""
        self.save(store)
        store.wait()
        command = self.folder.resume_command
        if self.data_dir is not None:
            command += f" --data-dir {shlex.quote(str(self.data_dir))}"
        if jax.process_count() > 1:
            command += " --distributed"
        return Interrupted(self.folder.path, command)

    def finish(self, store: CheckpointStore) -> Finished:
        """Write the summary and the curves once everything is on disk."""
        store.wait()
        summary = self._summary()
        self.folder.write_json(SUMMARY_FILE, summary)
        return Finished(self.folder.path, summary, self._draw())

    def _draw(self) -> tuple[str, ...]:
        from hepcli.experiments.plots import plot_curves

        if not self.folder.writes:
            return ()
        file, title = self.folder.path / "curves.png", self.folder.path.name
        notice = attempt(lambda: plot_curves(self.history, file, title=title), "curves.png")
        return () if notice is None else (notice,)

    def _summary(self) -> dict[str, Any]:
        last = self.history[-1]
        best = max(self.history, key=lambda line: line["test"]["top1"])
        is_timed = len(self.timing) == len(self.history)
        packages = ("hepcli", "jax", "flax", "optax", "orbax-checkpoint", "numpy")
        return {
            "run": str(self.folder.path),
            "config_hash": config_hash(self.config),
            "dataset": self.config.data.name,
            "method": self.config.gradient.method,
            "seed": self.config.run.seed,
            "epochs": len(self.history),
            "steps": self.step,
            "train": last["train"],
            "test": last["test"],
            "best_test_top1": best["test"]["top1"],
            "best_epoch": best["epoch"],
            "homeostatic_loss": last["homeostatic_loss"],
            "weight_angle_deg": last["weight_angle_deg"],
            "training_seconds": sum(line["seconds"] for line in self.timing) if is_timed else None,
            "images_per_second": _images_per_second(self.timing),
            "devices": [device.device_kind for device in self.task.layout.devices],
            "processes": jax.process_count(),
            "platform": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            "versions": {package: version(package) for package in packages},
        }


def _images_per_second(timing: Sequence[Mapping[str, float]]) -> float | None:
    """Median over the epochs, of which the first holds the compilation; None where none was timed."""
    rates = sorted(line["images_per_second"] for line in timing)
    return rates[len(rates) // 2] if rates else None
