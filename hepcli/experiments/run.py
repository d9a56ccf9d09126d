"""A run in its folder: what it trains on, what it keeps, and training it alone."""

import platform
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from numpy.typing import NDArray

from hepcli.checkpoints import CheckpointStore
from hepcli.config import Config, config_hash
from hepcli.data import epoch_order, load_split
from hepcli.errors import OutputError
from hepcli.experiments import build
from hepcli.experiments.build_network import build_network
from hepcli.experiments.measuring import SplitMeter, in_short
from hepcli.experiments.records import BatchDone, EpochDone, Finished, Interrupted, Record, RunStarted
from hepcli.experiments.run_folder import METRICS_FILE, SUMMARY_FILE, TIMING_FILE, RunFolder
from hepcli.networks import GraphNetwork, weight_angle_deg
from hepcli.training import (
    Evaluator,
    Layout,
    TrainState,
    TrainStep,
    check_finite,
    epoch_steps,
    finite_or_none,
    kernel_stds,
    make_joint_step,
    make_train_step,
    means,
    zero_totals,
)


class Bench:
    """What runs of one compiled program share: data on the device, network and evaluator.

    Args:
        config: of any of the runs.
        data_dir: where data sets are kept; None for the default folder.
        layout: the devices; None for all there are.

    Raises:
        ConfigError: the configuration does not suit the data set, or the devices.
        DatasetError: the data set is missing or damaged.
    """

    def __init__(self, config: Config, data_dir: Path | None, layout: Layout | None = None) -> None:
        self.layout = layout or Layout()
        build.check_devices(config, self.layout)
        train_split = load_split(config.data.name, "train", data_dir)
        self.test_split = test_split = load_split(config.data.name, "test", data_dir)
        self.num_examples = len(train_split.labels)
        self.num_batches = build.steps_per_epoch(config, self.num_examples)
        self._shape = build.data_shape(train_split)
        self.network: GraphNetwork = build_network(config, self._shape)
        self._preprocess = build.build_preprocess(config, self._shape)
        self._augment = build.build_augment(config, self._shape, self.num_batches)
        self.train_feed = build.build_feed(train_split, self.layout)
        self.test_feed = build.build_feed(test_split, self.layout)
        self.evaluator = Evaluator(
            self.network,
            self._shape.num_classes,
            build.relaxation_settings(config),
            config.homeostasis.num_draws,
            self._preprocess,
        )

    def optimizer(
        self, config: Config, learning_rate: jax.Array | None = None
    ) -> optax.GradientTransformation:
        """The optimiser of a run, or of runs together with a traced learning rate."""
        return build.build_optimizer_of(config, config.run.epochs * self.num_batches, learning_rate)

    def fresh_state(self, config: Config) -> TrainState:
        """The state of a run before its first step."""
        optimizer = self.optimizer(config)
        return build.fresh_state(config, self.network, self._shape, self.num_examples, optimizer)

    def train_step(self, config: Config) -> TrainStep:
        """The step of a run alone."""
        return make_train_step(
            self.network,
            self._shape.num_classes,
            build.learning_settings(config, self.network),
            self.optimizer(config),
            self._preprocess,
            self._augment,
            self.layout,
        )

    def joint_step(self, configs: Sequence[Config]) -> TrainStep:
        """The step of several runs together."""
        first = configs[0]
        return make_joint_step(
            self.network,
            self._shape.num_classes,
            build.learning_settings(first, self.network),
            lambda learning_rate: self.optimizer(first, learning_rate),
            build.run_numbers(configs),
            self._preprocess,
            self._augment,
        )


class Run:
    """A run in its folder: data, network, state and history."""

    def __init__(self, config: Config, folder: RunFolder, data_dir: Path | None, bench: Bench) -> None:
        self.config, self.folder, self.data_dir, self.bench = config, folder, data_dir, bench
        self.num_batches = bench.num_batches
        self.state: TrainState = bench.layout.replicate(bench.fresh_state(config))
        self.history: list[dict[str, Any]] = []
        self.timing: list[dict[str, Any]] = []
        self.step = 0
        count = config.run.measure_examples
        self._meter = (
            SplitMeter(config, bench.network, bench.test_split, count, "run.measure_examples =")
            if count
            else None
        )

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

    def restore(self, store: CheckpointStore, step: int | None = None) -> RunStarted:
        """Go back to the newest intact checkpoint, or that of a step, and the records of the run with it."""
        restored = store.restore(self.state, step)
        self.state = self.bench.layout.replicate(restored.state)
        self.step = restored.step
        self.history = restored.metadata["history"]
        done = len(self.history)
        self.folder.rewrite_lines(METRICS_FILE, self.history)
        notices = [f"{line} Continuing from step {restored.step}." for line in restored.damaged]
        try:
            lines = self.folder.read_lines(TIMING_FILE)
        except OutputError as error:
            lines = []
            notices.append(f"{error.what} How long the epochs before took is lost.")
        self.timing = [line for line in lines if line["epoch"] <= done]
        self.folder.rewrite_lines(TIMING_FILE, self.timing)
        return RunStarted(self.folder.path, self.config.run.epochs, done, tuple(self.history), tuple(notices))

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The order in which an epoch visits the examples."""
        return epoch_order(self.config.run.seed, epoch, self.bench.num_examples)

    def save(self, store: CheckpointStore, metric: float | None = None) -> None:
        """Save the state in the background, with the records up to here; never a diverged one."""
        check_finite(self.step, self.state.totals["loss"])
        if self.folder.writes:
            store.save(self.step, self.state, {"history": self.history}, metric)

    def epochs(self, store: CheckpointStore, stop: Callable[[], bool]) -> Iterator[Record]:
        """Train until done or stopped."""
        train_step = self.bench.train_step(self.config)
        for epoch in range(self.step // self.num_batches, self.config.run.epochs):
            started = time.perf_counter()
            first_batch = self.step % self.num_batches
            for batch in self._batches(train_step, epoch, first_batch, store):
                yield BatchDone(epoch + 1, batch, self.num_batches)
                if stop() and batch < self.num_batches:
                    yield self.interrupt(store)
                    return
            images = (self.num_batches - first_batch) * self.config.data.batch_size
            seconds = time.perf_counter() - started
            yield self.finish_epoch(store, epoch + 1, seconds, images / seconds)
            if stop() and epoch + 1 < self.config.run.epochs:
                yield self.interrupt(store)
                return
        yield self.finish(store)

    def _batches(
        self, train_step: TrainStep, epoch: int, first_batch: int, store: CheckpointStore
    ) -> Iterator[int]:
        """Run the rest of an epoch; saves every `every_steps` steps."""
        order = self.order(epoch)
        every = self.config.checkpoints.every_steps
        batch_size = self.config.data.batch_size
        feed = self.bench.train_feed
        for done in epoch_steps(train_step, self.state, feed, order, batch_size, first_batch):
            self.state, self.step = done.state, epoch * self.num_batches + done.batch
            if every and self.step % every == 0 and done.batch < self.num_batches:
                self.save(store)
            yield done.batch

    def finish_epoch(self, store: CheckpointStore, epoch: int, seconds: float, rate: float) -> EpochDone:
        """Evaluate, record and save at the end of an epoch."""
        metrics = build.plain(self._measure(epoch))
        self.state = self.state._replace(totals=self.bench.layout.replicate(zero_totals()))
        self.history.append(metrics)
        self.timing.append({"epoch": epoch, "seconds": seconds, "images_per_second": rate})
        self.folder.append_line(METRICS_FILE, metrics)
        self.folder.append_line(TIMING_FILE, self.timing[-1])
        self.save(store, metric=metrics["test"]["top1"])  # type: ignore[index]
        return EpochDone(metrics, seconds, rate)

    def _measure(self, epoch: int) -> dict[str, Any]:
        """The line of an epoch: a pure function of configuration and data."""
        params, bench = self.state.params, self.bench
        has_nudged = self.config.gradient.method != "bptt"
        trained = means(self.state.totals, nudged=has_nudged)
        totals, homeostatic = bench.evaluator(params, bench.test_feed, self.config.data.eval_batch_size)
        by_pair = weight_angle_deg(params, bench.network.pairs)
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
        words = ["hep", "train", "--resume", "--out", str(self.folder.path)]
        if self.data_dir is not None:
            words += ["--data-dir", str(self.data_dir)]
        return Interrupted(self.folder.path, shlex.join(words))

    def finish(self, store: CheckpointStore) -> Finished:
        """Write the summary and the curves once everything is on disk."""
        from hepcli.experiments.plots import plot_curves

        store.wait()
        summary = self._summary()
        self.folder.write_json(SUMMARY_FILE, summary)
        if self.folder.writes:
            with self.folder.writing():
                plot_curves(self.history, self.folder.path / "curves.png", title=self.folder.path.name)
        return Finished(self.folder.path, summary)

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
            "devices": [device.device_kind for device in self.bench.layout.devices],
            "processes": jax.process_count(),
            "platform": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            "versions": {package: version(package) for package in packages},
        }


def _images_per_second(timing: Sequence[Mapping[str, float]]) -> float | None:
    """Median over the epochs, of which the first holds the compilation; None where none was timed."""
    rates = sorted(line["images_per_second"] for line in timing)
    return rates[len(rates) // 2] if rates else None
