"""A run in its folder: its state, its records, and how it is saved and resumed."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from hepcli.checkpoints import CheckpointStore
from hepcli.config import Config
from hepcli.data import SPLIT_NAMES, epoch_order
from hepcli.engine import estimator_of
from hepcli.errors import OutputError
from hepcli.experiments.evaluated import Evaluated
from hepcli.experiments.figures.captions import settings_of
from hepcli.experiments.figures.curves import curves_of
from hepcli.experiments.figures.drawing import draw_figure
from hepcli.experiments.figures.style import FigureFormat, attempt
from hepcli.experiments.initial import leak_notice, starting_params
from hepcli.experiments.notices import epoch_notices, method_notices, schedule_notice
from hepcli.experiments.records import OLDER_LEAVES, EpochDone, Finished, Interrupted, RunStarted, newer_line
from hepcli.experiments.run_files import INIT_FILE, METRICS_FILE, SUMMARY_FILE, TIMING_FILE
from hepcli.experiments.run_folder import RunFolder
from hepcli.experiments.run_summary import summary_of
from hepcli.experiments.selection import is_over
from hepcli.experiments.split_meter import in_short
from hepcli.experiments.task import Task
from hepcli.experiments.timing import EpochTime, earlier_times
from hepcli.experiments.trackers import Trackers, check_installed
from hepcli.experiments.unchanged import check_config, check_data, check_length, rounding_notices
from hepcli.files import legible
from hepcli.training import (
    TrainState,
    check_finite,
    check_params,
    finite_or_none,
    kernel_stds,
    means,
    zero_totals,
)


class Run:
    """A run in its folder: state and history."""

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        data_dir: Path | None,
        task: Task,
        figure_format: FigureFormat = "png",
    ) -> None:
        self.config, self.folder, self.data_dir, self.task = config, folder, data_dir, task
        self.figure_format = figure_format
        self.num_batches = task.num_batches
        task.prepare()
        check_installed(config)
        self._trackers: Trackers | None = None
        self.held_out = task.held_out(config.run.seed)
        every = np.arange(len(task.split("train").labels))
        self._trained_on = np.setdiff1d(every, self.held_out, assume_unique=True)
        self.state: TrainState = task.layout.replicate(task.fresh_state(config))
        self.history: list[dict[str, Any]] = []
        self.timing: list[dict[str, Any]] = []
        self.earlier_schedules: list[dict[str, int]] = []
        self.step = 0
        self.restored_step: int | None = None
        count = config.run.measure_examples
        self._meter = task.meter(config, "test", count, "run.measure_examples =") if count else None

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
        # A run that could not take a step would be in the way of its successor.
        self.task.trace_own_parts(self.state.params)
        notices = self._notices()
        notices += self._track()
        if self.config.run.init_from:
            initial = starting_params(self.task, self.config, self.data_dir)
            self.state = self.task.layout.replicate(self.task.fresh_state(self.config, initial.params))
            self.folder.write_json(INIT_FILE, initial.record)
            notices += initial.notices
            labels = self.task.split("train").labels
            parent = getattr(self.task.spec.source, "parent", None)
            leak = leak_notice(
                self.config.run.init_from, initial.trained, self.config, self.held_out, labels, parent
            )
            notices += [] if leak is None else [leak]
        self.keep(store)  # a folder that cannot hold a checkpoint shows now, not after an epoch
        return RunStarted(self.folder.path, self.config.run.epochs, 0, (), tuple(notices))

    def restore(self, store: CheckpointStore, step: int | None = None) -> RunStarted:
        """Go back to the newest intact checkpoint, or that of a step, and the records of the run with it."""
        restored = store.restore(self.state, step, older=OLDER_LEAVES)
        check_config(self.config, restored.metadata, self.folder.path)
        check_data(self.task, restored.metadata, self.folder.path)
        self.state = self.task.layout.replicate(restored.state)
        self.step = restored.step
        self.history = [newer_line(line) for line in restored.metadata["history"]]
        begun = -(-self.step // self.num_batches)
        check_length(self.config, self.folder.path, self.history, begun)
        done = len(self.history)
        self.folder.rewrite_lines(METRICS_FILE, self.history)
        notices = self._notices() + [
            f"{line} Continuing from step {restored.step}." for line in restored.damaged
        ]
        if self.folder.writes:
            with self.folder.writing():
                notices += [line for line in store.survey() if line not in restored.damaged]
        self.restored_step = self.step
        self.earlier_schedules = list(restored.metadata.get("earlier_schedules", ()))
        notices += self._schedule_notices(restored.metadata)
        notices += rounding_notices(self.config, restored.metadata)
        self.timing, lost = earlier_times(self.folder, done)
        notices += lost
        self.folder.rewrite_lines(TIMING_FILE, self.timing)
        notices += self._track()
        return RunStarted(self.folder.path, self.config.run.epochs, done, tuple(self.history), tuple(notices))

    def _track(self) -> list[str]:
        """Begin the trackers with the epochs that are over; what the user should know of them."""
        self.end_tracking(finished=True)  # a run that goes back to an earlier step begins them again
        self._trackers = Trackers(self.config, self.folder, self.history)
        return self._trackers.news()

    def end_tracking(self, *, finished: bool = False) -> list[str]:
        """End the trackers, where they are not ended yet; what the user should know of them."""
        if self._trackers is None:
            return []
        self._trackers.close(finished=finished)
        return self._trackers.news()

    def _schedule_notices(self, metadata: Mapping[str, Any]) -> list[str]:
        """Say what becomes of a learning rate that ends where the number of epochs was changed; note it down.

        It makes the run another one than of that many epochs from the start, which its hash does not tell.
        """
        epochs = self.config.run.epochs
        before = (metadata.get("config") or {}).get("run", {}).get("epochs", epochs)
        if before == epochs or self.config.optimizer.schedule == "constant" or not self.step:
            return []
        self.earlier_schedules.append({"step": self.step, "epochs": before})
        return [schedule_notice(self.config, self.step, self.num_batches, before)]

    def _notices(self) -> list[str]:
        """Of the folder, and of how the data were loaded."""
        of_data = (self.task.split(name).notice for name in SPLIT_NAMES)
        asked, there = self.config.run.devices, self.task.layout.num_devices
        fewer = (
            []
            if asked in (0, there)
            else [f"run.devices = {asked}, but {there} in use: results agree up to rounding."]
        )
        of_method = method_notices(self.config)
        if self._meter is not None and (note := self._meter.coverage_note) is not None:
            of_method.append(note)
        return [*self.folder.notices, *filter(None, of_data), *fewer, *of_method]

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The order in which an epoch visits the examples that are trained on."""
        return self._trained_on[epoch_order(self.config.run.seed, epoch, len(self._trained_on))]

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to train: all epochs are done, or patience is at its end."""
        run = self.config.run
        return len(self.history) >= run.epochs or is_over(self.history, run.patience)

    def save(self, store: CheckpointStore, metric: float | None = None, *, replace: bool = False) -> None:
        """Save the state in the background, with the records up to here; never a diverged one."""
        check_finite(self.step, self.state.totals["loss"])
        check_params(self.step, self.state.params)
        if self.folder.writes:
            self.folder.check_claim()
            metadata = {
                "history": self.history,
                "config": self.config.model_dump(mode="json"),
                "data": self.task.fingerprint,
                "earlier_schedules": self.earlier_schedules,
            }
            store.save(self.step, self.state, metadata, metric, replace=replace)

    def keep(self, store: CheckpointStore) -> None:
        """Save what was trained, to the disk: what follows has failed or was stopped."""
        self.save(store)
        store.wait()

    def finish_epoch(
        self,
        store: CheckpointStore,
        epoch: int,
        evaluated: Evaluated,
        time: EpochTime,
        *,
        was_saved: bool,
    ) -> EpochDone:
        """Measure, record and save at the end of an epoch.

        One that `was_saved` already, because it was stopped while it was evaluated, is saved again.
        """
        check_params(self.step, self.state.params)  # before anything of the epoch is recorded
        try:
            metrics = self._measure(epoch, evaluated)
        except Exception:  # such as of memory, or of an own measure
            self.keep(store)
            raise
        self.state = self.state._replace(totals=self.task.layout.replicate(zero_totals()))
        self.history.append(metrics)
        self.timing.append(time.line(epoch))
        metric = metrics["validation"]["top1"] if "validation" in metrics else None
        try:
            store.wait()  # what has epochs has a checkpoint; `save` would wait as long
        except OutputError:
            self.save(store, metric, replace=was_saved)  # there may be room again
            raise
        self.folder.append_line(METRICS_FILE, metrics)
        self.folder.append_line(TIMING_FILE, self.timing[-1])
        self.save(store, metric, replace=was_saved)
        if self._trackers is not None:
            self._trackers.log(metrics)
        notices = epoch_notices(self.config, metrics)
        return EpochDone(metrics, time.seconds, time.images_per_second, tuple(notices))

    def _measure(self, epoch: int, evaluated: Evaluated) -> dict[str, Any]:
        """The line of an epoch: a pure function of configuration and data."""
        params, test, held_out = evaluated
        has_nudged = estimator_of(self.config.gradient.method).has_nudged_record
        trained = means(self.state.totals, nudged=has_nudged)
        by_pair = jax.device_get(self.task.network.weight_angles_deg(params))
        validation = {} if held_out is None else {"validation": means(held_out, nudged=False)}
        angles = {name: finite_or_none(float(angle)) for name, angle in by_pair.items()}
        record = {
            "epoch": epoch,
            "step": self.step,
            "train": trained,
            **validation,
            "test": means(test, nudged=False),
            "homeostatic_loss": finite_or_none(float(test["homeostatic_loss"])),
            "weight_angle_deg": angles.get("total"),
            "weight_angle_deg_by_pair": {name: a for name, a in angles.items() if name != "total"},
            "kernel_std": kernel_stds(self.state.params),
        }
        if self._meter is not None:
            measures = self._meter.measures(jax.tree.map(np.asarray, params))
            record["asymmetry"] = in_short(measures, self.config.run.measure_examples)
        return record

    def interrupt(self, store: CheckpointStore) -> Interrupted:
        """Save, and say how to go on."""
        self.keep(store)
        self.end_tracking(finished=True)
        command = self.folder.resume_command
        if self.figure_format != "png":
            command += f" --format {self.figure_format}"
        if self.data_dir is not None:
            command += f" --data-dir {shlex.quote(str(self.data_dir))}"
        if jax.process_count() > 1:
            command += " --distributed"
        return Interrupted(self.folder.path, command)

    def finish(self, store: CheckpointStore) -> Finished:
        """Write the summary and the curves once everything is on disk."""
        store.wait()
        summary = summary_of(self)
        self.folder.write_json(SUMMARY_FILE, summary)
        notices = self._draw()
        if self._trackers is not None:
            self._trackers.figure(self._curves_file)
        notices = (*notices, *self.end_tracking(finished=True))
        return Finished(self.folder.path, summary, notices, self.data_dir)

    @property
    def _curves_file(self) -> Path:
        return self.folder.path / f"curves.{self.figure_format}"

    def _draw(self) -> tuple[str, ...]:
        if not self.folder.writes:
            return ()
        file = self._curves_file
        caption = settings_of(self.config, estimator_of(self.config.gradient.method).uses_circle)
        title = legible(self.folder.path.name)
        notice = attempt(lambda: draw_figure(curves_of(self.history, title, caption), file), file.name)
        return () if notice is None else (notice,)
