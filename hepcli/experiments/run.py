"""A run in its folder: its state, its records, and how it is saved and resumed."""

import math
import platform
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from hepcli.checkpoints import CheckpointStore
from hepcli.config import OF_LAST_LINE, Config, config_hash
from hepcli.data import SPLIT_NAMES, SplitName, epoch_order
from hepcli.engine import Gradient, estimator_of
from hepcli.errors import ConfigError, OutputError
from hepcli.experiments.captions import settings_of
from hepcli.experiments.drawing import draw_figure
from hepcli.experiments.figures import FigureFormat, attempt
from hepcli.experiments.initial import leak_notice, starting_params
from hepcli.experiments.plots import curves_of
from hepcli.experiments.records import EpochDone, Finished, Interrupted, RunStarted, newer_line
from hepcli.experiments.run_folder import INIT_FILE, METRICS_FILE, SUMMARY_FILE, TIMING_FILE, RunFolder
from hepcli.experiments.saved import check_config, check_data
from hepcli.experiments.selection import is_over, selection
from hepcli.experiments.split_meter import in_short
from hepcli.experiments.task import Task
from hepcli.experiments.trackers import Trackers, check_installed
from hepcli.settings import SCHEDULES
from hepcli.training import (
    Totals,
    TrainState,
    check_finite,
    check_params,
    finite_or_none,
    kernel_stds,
    means,
    zero_totals,
)

T = TypeVar("T")

OLDER_LEAVES = {
    ".totals['passes']": ".totals['sweeps']",
    ".totals['settled']": ".totals['converged']",
    ".totals['nudged_settled']": ".totals['nudged_converged']",
    ".totals['signal']": None,
    ".totals['unsettled_signal']": None,
}
"""What leaves of a state were called in checkpoints of hepcli 0.1; None where there were none."""


SMALLEST_RADIUS = 1e-4
"""|β| below which rounding in float32 changes the gradient of a batch by more than about 1 % (METHOD §3)."""
MOST_ADJOINT_STEPS = 30
"""Steps after which adjoints of examples that have not settled outweigh the others' (METHOD §3)."""


class Evaluated(NamedTuple):
    """A run at the end of an epoch.

    Attributes:
        params: as its devices read them.
        test: sums over the test split, and with the homeostatic loss.
        validation: sums over the examples that it keeps for validation; None without.
    """

    params: Gradient
    test: Totals
    validation: Totals | None


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
        self._restored: int | None = None
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
        self.save(store)
        return RunStarted(self.folder.path, self.config.run.epochs, 0, (), tuple(notices))

    def restore(self, store: CheckpointStore, step: int | None = None) -> RunStarted:
        """Go back to the newest intact checkpoint, or that of a step, and the records of the run with it."""
        restored = store.restore(self.state, step, older=OLDER_LEAVES)
        check_config(self.config, restored.metadata, self.folder.path)
        check_data(self.task, restored.metadata, self.folder.path)
        self._check_epochs(restored.step)
        self.state = self.task.layout.replicate(restored.state)
        self.step = restored.step
        self.history = [newer_line(line) for line in restored.metadata["history"]]
        self._check_patience()
        done = len(self.history)
        self.folder.rewrite_lines(METRICS_FILE, self.history)
        notices = self._notices() + [
            f"{line} Continuing from step {restored.step}." for line in restored.damaged
        ]
        if self.folder.writes:
            with self.folder.writing():
                notices += [line for line in store.survey() if line not in restored.damaged]
        self._restored = self.step
        self.earlier_schedules = list(restored.metadata.get("earlier_schedules", ()))
        notices += self._schedule_notices(restored.metadata)
        try:
            lines = self.folder.read_lines(TIMING_FILE)
        except OutputError as error:
            lines = []
            notices.append(f"{error.what} The times of earlier epochs are lost.")
        complete = all(map(_is_timing, lines))
        if not complete:
            what = "lacks entries or contains invalid ones"
            notices.append(f"{self.folder.path / TIMING_FILE} {what}: the times of earlier epochs are lost.")
        self.timing = [line for line in lines if complete and line["epoch"] <= done]
        self.folder.rewrite_lines(TIMING_FILE, self.timing)
        notices += self._track()
        return RunStarted(self.folder.path, self.config.run.epochs, done, tuple(self.history), tuple(notices))

    def _check_epochs(self, step: int) -> None:
        """Check that no fewer epochs are asked for than are done.

        Raises:
            ConfigError: they are, so that results and configuration would not match.
        """
        done, epochs = -(-step // self.num_batches), self.config.run.epochs
        if epochs < done:
            raise ConfigError(
                f"run.epochs = {epochs}: the run in {self.folder.path} is already in or past epoch {done}.",
                f"Choose at least {done} epochs, or start a new run from its weights with --init-from "
                f"{self.folder.path}.",
            )

    def _check_patience(self) -> None:
        """Check that the run would not have ended sooner.

        Raises:
            ConfigError: it would, so that results and configuration would not match.
        """
        patience, begun = self.config.run.patience, -(-self.step // self.num_batches)
        for epoch in range(1, begun):
            if is_over(self.history[:epoch], patience):
                raise ConfigError(
                    f"run.patience = {patience}: the run in {self.folder.path} would have ended after epoch "
                    f"{epoch}, but is in or past epoch {begun}.",
                    "Choose a larger run.patience, or start a new run with it.",
                )

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
        settings, epochs = self.config.optimizer, self.config.run.epochs
        before = (metadata.get("config") or {}).get("run", {}).get("epochs", epochs)
        if before == epochs or settings.schedule == "constant" or not self.step:
            return []
        self.earlier_schedules.append({"step": self.step, "epochs": before})
        schedule = SCHEDULES[settings.schedule]
        old, new = (
            float(schedule(settings.learning_rate, n * self.num_batches)(self.step)) for n in (before, epochs)
        )
        return [
            f"optimizer.schedule = {settings.schedule}: up to step {self.step} the schedule for {before} "
            "epochs was used "
            f"(learning rate {old:.3g}); from here on, the schedule for {epochs} epochs is used "
            "(learning rate "
            f"{new:.3g}). A run of {epochs} epochs from the start would give different results."
        ]

    def _notices(self) -> list[str]:
        """Of the folder, and of how the data were loaded."""
        of_data = (self.task.split(name).notice for name in SPLIT_NAMES)
        asked, there = self.config.run.devices, self.task.layout.num_devices
        fewer = (
            []
            if asked in (0, there)
            else [f"run.devices = {asked}, but {there} in use: results agree up to rounding."]
        )
        of_method = [*_rounding_notices(self.config), *_adjoint_notices(self.config)]
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
        seconds: float,
        rate: float,
        *,
        whole: bool,
        was_saved: bool,
    ) -> EpochDone:
        """Measure, record and save at the end of an epoch; what one resumed half-way took is unknown.

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
        taken = seconds if whole else None
        self.timing.append({"epoch": epoch, "seconds": taken, "images_per_second": rate})
        store.wait()  # what has epochs has a checkpoint; `save` would wait as long
        self.folder.append_line(METRICS_FILE, metrics)
        self.folder.append_line(TIMING_FILE, self.timing[-1])
        metric = metrics["validation"]["top1"] if "validation" in metrics else None
        self.save(store, metric, replace=was_saved)
        if self._trackers is not None:
            self._trackers.log(metrics)
        return EpochDone(metrics, seconds, rate)

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
        summary = self._summary()
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
        title = self.folder.path.name
        notice = attempt(lambda: draw_figure(curves_of(self.history, title, caption), file), file.name)
        return () if notice is None else (notice,)

    def _summary(self) -> dict[str, Any]:
        """The record of the finished run; of one that was finished before, where it was trained stays."""
        last = self.history[-1]
        where = self._where()
        if self.step == self._restored:
            with suppress(OutputError):  # damaged: it is written anew
                before = self.folder.read_summary() or {}
                if before.get("config_hash") == config_hash(self.config):
                    where |= {name: before[name] for name in where if name in before}
        seconds = [line["seconds"] for line in self.timing]
        is_timed = len(seconds) == len(self.history) and None not in seconds
        return {
            "run": str(self.folder.path),
            "config_hash": config_hash(self.config),
            "dataset": self.config.data.name,
            "dataset_sha256": self.task.fingerprint,
            "method": self.config.gradient.method,
            "seed": self.config.run.seed,
            "epochs": len(self.history),
            "steps": self.step,
            "train": last["train"],
            "test": last["test"],
            "selection": selection(self.history),
            **({"init_from": self.folder.read_init()} if self.config.run.init_from else {}),
            **({"earlier_schedules": self.earlier_schedules} if self.earlier_schedules else {}),
            "homeostatic_loss": last["homeostatic_loss"],
            "weight_angle_deg": last["weight_angle_deg"],
            **{name: last[name] for name in OF_LAST_LINE if name in last},
            "training_seconds": sum(seconds) if is_timed else None,
            "images_per_second": _images_per_second(self.timing),
            **where,
        }

    def _where(self) -> dict[str, Any]:
        """What is trained on, and with."""
        packages = ("hepcli", "jax", "flax", "optax", "orbax-checkpoint", "numpy")
        return {
            "devices": [device.device_kind for device in self.task.layout.devices],
            "processes": jax.process_count(),
            "platform": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            "versions": {package: version(package) for package in packages},
        }


def stack(trees: Sequence[T]) -> T:
    """The trees of several runs as one, with a leading axis of runs."""
    stacked: T = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    return stacked


def evaluate_runs(runs: Sequence[Run], stop: Callable[[], bool]) -> list[Evaluated]:
    """Evaluate runs of one task at the end of an epoch, all in one program.

    Raises:
        EvaluationStopped: `stop`, asked before every batch, said so.
    """
    first = runs[0]
    task, size = first.task, first.config.data.eval_batch_size
    read = [task.weights_as_read(run.state.params, run.config, run.step) for run in runs]
    is_alone = len(runs) == 1
    params = read[0] if is_alone else stack(read)

    def totals(split: SplitName, examples: list[NDArray[np.int64]], *, homeostasis: bool) -> list[Totals]:
        chosen = examples[0] if is_alone else np.stack(examples)
        sums = task.evaluator(
            params, task.feed(split), size, homeostasis=homeostasis, examples=chosen, stop=stop
        )
        if is_alone:
            return [sums]
        host = jax.device_get(sums)
        return [{name: value[place] for name, value in host.items()} for place in range(len(runs))]

    every = np.arange(len(task.split("test").labels))
    test = totals("test", [every] * len(runs), homeostasis=True)
    validation: Sequence[Totals | None] = [None] * len(runs)
    if first.held_out.size:
        validation = totals("train", [run.held_out for run in runs], homeostasis=False)
    return [Evaluated(*own) for own in zip(read, test, validation, strict=True)]


def _is_timing(line: Mapping[str, Any]) -> bool:
    """Whether a line of timing.jsonl is one that `finish_epoch` writes."""
    if type(line.get("epoch")) is not int or not {"seconds", "images_per_second"} <= line.keys():
        return False
    numbers = [line["images_per_second"], *([] if line["seconds"] is None else [line["seconds"]])]
    return all(type(number) in (int, float) and math.isfinite(number) for number in numbers)


def _images_per_second(timing: Sequence[Mapping[str, float]]) -> float | None:
    """Median over the epochs that were timed, of which the first holds the compilation; None of none."""
    rates = sorted(line["images_per_second"] for line in timing if line["images_per_second"])
    return rates[len(rates) // 2] if rates else None


def _adjoint_notices(config: Config) -> list[str]:
    """Say that iterated adjoints grow without bounds in examples that have not settled."""
    method, steps = config.gradient.method, config.gradient.adjoint_steps
    learns = config.relaxation.unsettled == "learn"
    if not estimator_of(method).iterates_adjoint or not learns or steps <= MOST_ADJOINT_STEPS:
        return []
    return [
        f"gradient.method = {method}: where an example has not settled, its adjoint grows with each of the "
        f"{steps} iterations, and a few such examples can undo what the others teach (METHOD §3). Use "
        "relaxation.unsettled=skip, or gradient.adjoint_steps=20 as in the published code."
    ]


def _rounding_notices(config: Config) -> list[str]:
    """Say that nudges are so small that rounding shows; measures in float64 do not."""
    radius = config.gradient.beta_radius
    if radius >= SMALLEST_RADIUS or not estimator_of(config.gradient.method).magnifies_rounding:
        return []
    return [
        f"gradient.beta_radius = {radius:g}: {config.gradient.method} divides rounding errors of float32 by "
        "|β|, which changes gradients by about 1e-6/|β| of their size (METHOD §3). hep measure-asymmetry, in "
        f"float64, does not show this. Use {SMALLEST_RADIUS:g} or more, or hep_exact, which takes no nudge."
    ]
