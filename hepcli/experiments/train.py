"""The function behind `hep train`: one run, from configuration to summary."""

import json
import platform
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax

from hepcli.checkpoints import CONFIG_FILE, CheckpointStore
from hepcli.config import Config, ResolvedConfig, config_hash, differences, load_config, read_config
from hepcli.data import epoch_order, load_split
from hepcli.errors import CheckpointError, ConfigError
from hepcli.experiments import build
from hepcli.experiments.run_folder import METRICS_FILE, SUMMARY_FILE, TIMING_FILE, RunFolder
from hepcli.networks import DenseNetwork, weight_angle_deg
from hepcli.training import (
    Evaluator,
    TrainState,
    check_finite,
    epoch_steps,
    finite_or_none,
    init_state,
    kernel_stds,
    make_train_step,
    means,
    zero_totals,
)


class TrainRequest(NamedTuple):
    """What the command line asks for.

    Attributes:
        preset: name or path; None for the default, or with `resume` for the run's own configuration.
        overrides: KEY=VALUE texts.
        flags: dotted key -> value of an option of its own; None where not given.
        out: run folder; None for runs/<preset>-<time>.
        resume: continue the run in `out`.
        data_dir: where data sets are kept; None for the default folder.
    """

    preset: str | None = None
    overrides: Sequence[str] = ()
    flags: Mapping[str, object] = {}
    out: Path | None = None
    resume: bool = False
    data_dir: Path | None = None


class RunStarted(NamedTuple):
    """The run folder is ready; `epochs_done` of `epochs` are behind us. `notices` are for the user."""

    folder: Path
    epochs: int
    epochs_done: int
    history: tuple[dict[str, Any], ...]
    notices: tuple[str, ...]


class BatchDone(NamedTuple):
    """A training step was dispatched."""

    epoch: int
    batch: int
    num_batches: int


class EpochDone(NamedTuple):
    """An epoch's line of metrics.jsonl, and what the clock said."""

    metrics: dict[str, Any]
    seconds: float
    images_per_second: float


class Interrupted(NamedTuple):
    """The run was stopped and saved; `command` continues it."""

    folder: Path
    command: str


class Finished(NamedTuple):
    """The run is complete."""

    folder: Path
    summary: dict[str, Any]


Record = RunStarted | BatchDone | EpochDone | Interrupted | Finished


def train(request: TrainRequest, stop: Callable[[], bool] = lambda: False) -> Iterator[Record]:
    """Train a network, or continue to.

    Args:
        request: what to train and where.
        stop: asked after every step; True saves and ends the run.

    Yields:
        Records of the run's progress, the last one `Finished` or `Interrupted`.

    Raises:
        ConfigError: settings that are not allowed, or that differ from those of the run to resume.
        DatasetError: the data set is missing or damaged.
        CheckpointError: there is nothing intact to resume from.
        OutputError: the folder holds a run, is in use, or cannot be written.
        DivergenceError: the loss left the finite numbers.
    """
    resolved, folder = _resolve(request)
    run = _Run(resolved.config, folder, request.data_dir)
    if not request.resume:
        folder.create(resolved)
    with folder.claimed(), run.open_store() as store:
        if request.resume:
            yield run.restore(store)
            if read_config(folder.path) != resolved.config:
                folder.write_config(resolved)  # more epochs
        else:
            yield run.start(store)
        yield from run.epochs(store, stop)


def _resolve(request: TrainRequest) -> tuple[ResolvedConfig, RunFolder]:
    """The configuration and the folder of a run that is to start or to go on."""
    if not request.resume:
        resolved = load_config(request.preset, request.overrides, request.flags)
        return resolved, RunFolder(request.out or _new_folder(resolved.preset))
    if request.out is None:
        raise ConfigError(
            "--resume needs to know which run.", "Give its folder: hep train --resume --out DIR"
        )
    folder = RunFolder(request.out)
    if not folder.holds_run:
        raise CheckpointError(
            f"{request.out} holds no run to resume.",
            "Start one there: leave out --resume, or choose another --out.",
        )
    saved = read_config(request.out)
    asked = _asked_for(request, folder)
    for key, old, new in differences(saved, asked.config):
        if key == "run.epochs" and asked.config.optimizer.schedule == "constant":
            continue  # training for longer changes nothing of what was done
        raise ConfigError(
            f"{key} = {_toml(new)}: the run in {request.out} was started with {_toml(old)}.",
            f"Resume it as it is: hep train --resume --out {request.out}   or start anew with another --out.",
        )
    return asked, folder


def _asked_for(request: TrainRequest, folder: RunFolder) -> ResolvedConfig:
    """The configuration that a resume asks for: the run's own, changed by what is given now."""
    preset = request.preset or str(folder.path / CONFIG_FILE)
    return load_config(preset, request.overrides, request.flags)


def _toml(value: object) -> str:
    return "nothing" if value is None else json.dumps(value)


def _new_folder(preset: str) -> Path:
    name = f"{preset}-{datetime.now():%Y%m%d-%H%M%S}"
    path, attempt = Path("runs") / name, 1
    while path.exists():
        attempt += 1
        path = Path("runs") / f"{name}-{attempt}"
    return path


class _Run:
    """A run in its folder: data, network, state and history."""

    def __init__(self, config: Config, folder: RunFolder, data_dir: Path | None) -> None:
        self.config, self.folder, self.data_dir = config, folder, data_dir
        train_split = load_split(config.data.name, "train", data_dir)
        test_split = load_split(config.data.name, "test", data_dir)
        self.num_examples = len(train_split.labels)
        self.num_batches = build.steps_per_epoch(config, self.num_examples)
        shape = build.data_shape(train_split)
        self.network: DenseNetwork = build.build_network(config, shape)
        self.train_data, self.test_data = build.to_device(train_split), build.to_device(test_split)
        optimizer = build.build_optimizer_of(config, config.run.epochs * self.num_batches)
        self.train_step = make_train_step(
            self.network, shape.num_classes, build.learning_settings(config), optimizer
        )
        self.evaluator = Evaluator(
            self.network, shape.num_classes, build.relaxation_settings(config), config.homeostasis.num_draws
        )
        self.state: TrainState = init_state(build.init_params(config, self.network), optimizer)
        self.history: list[dict[str, Any]] = []
        self.timing: list[dict[str, Any]] = []
        self.step = 0

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
        return RunStarted(self.folder.path, self.config.run.epochs, 0, (), ())

    def restore(self, store: CheckpointStore) -> RunStarted:
        """Go back to the newest intact checkpoint, and the records of the run with it."""
        restored = store.restore(self.state)
        self.state = jax.device_put(restored.state)
        self.step = restored.step
        self.history = restored.metadata["history"]
        done = len(self.history)
        self.folder.rewrite_lines(METRICS_FILE, self.history)
        self.timing = self.folder.read_lines(TIMING_FILE)[:done]
        self.folder.rewrite_lines(TIMING_FILE, self.timing)
        notices = tuple(f"{line} Continuing from step {restored.step}." for line in restored.damaged)
        return RunStarted(self.folder.path, self.config.run.epochs, done, tuple(self.history), notices)

    def save(self, store: CheckpointStore, metric: float | None = None) -> None:
        """Save the state in the background, with the records up to here; never a diverged one."""
        check_finite(self.step, self.state.totals["loss"])
        store.save(self.step, self.state, {"history": self.history}, metric)

    def epochs(self, store: CheckpointStore, stop: Callable[[], bool]) -> Iterator[Record]:
        """Train until done or stopped."""
        for epoch in range(self.step // self.num_batches, self.config.run.epochs):
            started = time.perf_counter()
            first_batch = self.step % self.num_batches
            for batch in self._batches(epoch, first_batch, store):
                yield BatchDone(epoch + 1, batch, self.num_batches)
                if stop() and batch < self.num_batches:
                    yield self._interrupt(store)
                    return
            images = (self.num_batches - first_batch) * self.config.data.batch_size
            seconds = time.perf_counter() - started
            yield self._finish_epoch(store, epoch + 1, seconds, images / seconds)
            if stop() and epoch + 1 < self.config.run.epochs:
                yield self._interrupt(store)
                return
        yield self._finish(store)

    def _batches(self, epoch: int, first_batch: int, store: CheckpointStore) -> Iterator[int]:
        """Run the rest of an epoch; saves every `every_steps` steps."""
        order = epoch_order(self.config.run.seed, epoch, self.num_examples)
        every = self.config.checkpoints.every_steps
        batch_size = self.config.data.batch_size
        for done in epoch_steps(
            self.train_step, self.state, *self.train_data, order, batch_size, first_batch
        ):
            self.state, self.step = done.state, epoch * self.num_batches + done.batch
            if every and self.step % every == 0 and done.batch < self.num_batches:
                self.save(store)
            yield done.batch

    def _finish_epoch(self, store: CheckpointStore, epoch: int, seconds: float, rate: float) -> EpochDone:
        """Evaluate, record and save at the end of an epoch."""
        metrics = build.plain(self._measure(epoch))
        self.state = self.state._replace(totals=zero_totals())
        self.history.append(metrics)
        self.timing.append({"epoch": epoch, "seconds": seconds, "images_per_second": rate})
        self.folder.append_line(METRICS_FILE, metrics)
        self.folder.append_line(TIMING_FILE, self.timing[-1])
        self.save(store, metric=metrics["test"]["top1"])  # type: ignore[index]
        return EpochDone(metrics, seconds, rate)

    def _measure(self, epoch: int) -> dict[str, Any]:
        """The line of an epoch: a pure function of configuration and data."""
        params = self.state.params
        has_nudged = self.config.gradient.method != "bptt"
        trained = means(self.state.totals, nudged=has_nudged)
        totals, homeostatic = self.evaluator(params, *self.test_data, self.config.data.eval_batch_size)
        angles = {
            name: finite_or_none(float(a)) for name, a in weight_angle_deg(params, self.network.pairs).items()
        }
        return {
            "epoch": epoch,
            "step": self.step,
            "train": trained,
            "test": means(totals, nudged=False),
            "homeostatic_loss": finite_or_none(float(homeostatic)),
            "weight_angle_deg": angles.get("total"),
            "weight_angle_deg_by_pair": {name: a for name, a in angles.items() if name != "total"},
            "kernel_std": kernel_stds(params),
        }

    def _interrupt(self, store: CheckpointStore) -> Interrupted:
        self.save(store)
        store.wait()
        words = ["hep", "train", "--resume", "--out", str(self.folder.path)]
        if self.data_dir is not None:
            words += ["--data-dir", str(self.data_dir)]
        return Interrupted(self.folder.path, shlex.join(words))

    def _finish(self, store: CheckpointStore) -> Finished:
        """Write the summary and the curves once everything is on disk."""
        from hepcli.experiments.plots import plot_curves

        store.wait()
        summary = self._summary()
        self.folder.write_json(SUMMARY_FILE, summary)
        with self.folder.writing():
            plot_curves(self.history, self.folder.path / "curves.png", title=self.folder.path.name)
        return Finished(self.folder.path, summary)

    def _summary(self) -> dict[str, Any]:
        last = self.history[-1]
        best = max(self.history, key=lambda line: line["test"]["top1"])
        seconds = sum(line["seconds"] for line in self.timing)
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
            "training_seconds": seconds,
            "images_per_second": _images_per_second(self.timing),
            "devices": [device.device_kind for device in jax.devices()],
            "platform": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            "versions": {package: version(package) for package in packages},
        }


def _images_per_second(timing: Sequence[Mapping[str, float]]) -> float:
    """Median over the epochs: the first one holds the compilation."""
    rates = sorted(line["images_per_second"] for line in timing)
    return rates[len(rates) // 2]
