"""Runs: exact resume, refusals that lose nothing, and every preset and method taking steps."""

import itertools
import json
import shutil
import tomllib
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.checkpoints import CheckpointStore
from hepcli.config import list_presets, load_config
from hepcli.data import import_data, load_split, silent
from hepcli.errors import (
    CheckpointError,
    ConfigError,
    DatasetError,
    DivergenceError,
    HepError,
    OutputError,
    ProcessError,
)
from hepcli.experiments import group
from hepcli.experiments.evaluate import evaluate
from hepcli.experiments.evaluated import evaluate_runs
from hepcli.experiments.group import Group
from hepcli.experiments.measure import MeasureRequest, measure
from hepcli.experiments.measurement import Measurement
from hepcli.experiments.run import Run
from hepcli.experiments.task import Task
from hepcli.experiments.timing import timing_of
from hepcli.experiments.train import BatchDone, Finished, Interrupted, RunStarted, TrainRequest, train
from hepcli.experiments.weights import export
from hepcli.settings import ESTIMATORS
from hepcli.training import Layout

pytestmark = pytest.mark.usefixtures("small_data")
EPOCHS = 3  # of 10 steps each


def run(out, overrides, *, stop_after=None, resume=False, epochs=EPOCHS, preset=None):
    """Train, stopping after a number of steps of this call; returns all records."""
    records = []
    done = lambda: sum(isinstance(record, BatchDone) for record in records)  # noqa: E731
    stop = lambda: stop_after is not None and done() >= stop_after  # noqa: E731
    request = TrainRequest(preset, overrides, {"run.epochs": epochs}, out, resume)
    for record in train(request, stop):  # not extend: `stop` must see each record as it comes
        records.append(record)
    return records


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def final_params(folder):
    store = CheckpointStore(folder / "checkpoints")
    step = store.steps()[-1]
    leaves = {}
    for file in sorted((folder / "checkpoints" / str(step)).rglob("*")):
        if file.is_file() and "manifest" in file.name and file.suffix == ".json":
            leaves = json.loads(file.read_text())["leaves"]
    return step, {name: leaf["sha256"] for name, leaf in leaves.items()}


@pytest.fixture
def whole_run(tmp_path, small, finished_runs):
    """A finished run of the small network; trained once, copied for each test."""
    if not finished_runs.exists():
        assert isinstance(run(finished_runs, small)[-1], Finished)
    return shutil.copytree(finished_runs, tmp_path / "whole")


def test_a_run_folder_holds_what_was_promised(small, whole_run):
    lines = [json.loads(line) for line in (whole_run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert {"loss", "top1", "top5", "log10_residual", "settled", "nonfinite"} <= lines[-1]["train"].keys()
    assert lines[-1]["kernel_std"].keys() == {"in-l1", "l1-l2", "l2-l1", "l2-out", "out-l2", "readout"}
    config = tomllib.loads((whole_run / "config.toml").read_text())
    assert config["run"]["epochs"] == EPOCHS
    assert (whole_run / "config.toml").read_text().count("# flag") == len(small) + 1  # and epochs
    summary = json.loads((whole_run / "summary.json").read_text())
    assert summary["test"] == lines[-1]["test"]


@pytest.mark.draws
def test_a_finished_run_has_curves(small, whole_run):
    run(whole_run, small, resume=True)
    assert (whole_run / "curves.png").read_bytes().startswith(b"\x89PNG")
    panels = json.loads((whole_run / "curves.figure.json").read_text())["panels"]
    top1 = json.loads((whole_run / "summary.json").read_text())["test"]["top1"]
    ends = [series["y"][-1] for panel in panels for series in panel["series"]]
    assert any(end == pytest.approx(100 * (1 - top1)) for end in ends)
    assert (whole_run / "curves.figure.json").exists()


@pytest.mark.parametrize("stop_after", [1, 7, 10, 13, 30])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, small, whole_run, stop_after):
    folder = tmp_path / "stopped"
    stopped = run(folder, small, stop_after=stop_after)
    assert isinstance(stopped[-1], Interrupted)
    assert stopped[-1].command == f"hep train --resume --out {folder}"
    resumed = run(folder, small, resume=True)
    assert isinstance(resumed[0], RunStarted)
    assert resumed[0].epochs_done == (stop_after - 1) // 10  # the last step was not evaluated yet
    assert (folder / "metrics.jsonl").read_bytes() == (whole_run / "metrics.jsonl").read_bytes()
    assert final_params(folder) == final_params(whole_run)


def test_randomness_resumes_too(tmp_path, small):
    """Noise of homeostasis and of the states; AdamW's moments and count; the last state of every example."""
    overrides = (*small, "homeostasis.weight=1.0", "optimizer.name=adamw", "optimizer.learning_rate=1e-3")
    overrides += ("network.initial_angle_deg=90.0", "gradient.method=hep_exact", "optimizer.schedule=cosine")
    overrides += ("relaxation.tolerance=0.0", "relaxation.noise_std=0.01", "relaxation.persistent_state=true")
    run(tmp_path / "whole", overrides)
    run(tmp_path / "stopped", overrides, stop_after=4)
    run(tmp_path / "stopped", overrides, stop_after=11, resume=True)
    run(tmp_path / "stopped", overrides, resume=True)
    assert (tmp_path / "stopped/metrics.jsonl").read_bytes() == (
        tmp_path / "whole/metrics.jsonl"
    ).read_bytes()
    assert final_params(tmp_path / "stopped") == final_params(tmp_path / "whole")
    found, _ = evaluate(tmp_path / "stopped")
    assert found["top1"] == json.loads((tmp_path / "whole/summary.json").read_text())["test"]["top1"]


def test_lines_written_after_the_last_save_are_not_doubled(tmp_path, small, whole_run):
    """A process killed between writing its line and saving leaves a line the checkpoint does not know."""
    folder = tmp_path / "stopped"
    run(folder, small, stop_after=12)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "step": 20}\n{"torn')
    run(folder, small, resume=True)
    assert (folder / "metrics.jsonl").read_bytes() == (whole_run / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("damage", [None, b"\xff\n"])
def test_a_run_whose_times_are_lost_says_so_and_goes_on(tmp_path, small, whole_run, damage):
    folder = tmp_path / "stopped"
    run(folder, small, stop_after=20)
    if damage is None:
        (folder / "timing.jsonl").unlink()
    else:
        (folder / "timing.jsonl").write_bytes(damage)
    records = run(folder, small, resume=True)
    notices = [] if damage is None else [f"{folder / 'timing.jsonl'} is damaged at line 1."]
    assert [notice.partition(" The times")[0] for notice in records[0].notices] == notices
    assert (folder / "metrics.jsonl").read_bytes() == (whole_run / "metrics.jsonl").read_bytes()
    assert records[-1].summary["training_seconds"] is None
    assert records[-1].summary["images_per_second"] > 0
    (folder / "timing.jsonl").unlink()
    assert run(folder, small, resume=True)[-1].summary["images_per_second"] is None


@pytest.mark.parametrize(
    "line",
    [
        '{"epoch": 1, "seconds": NaN, "images_per_second": 1.0}',
        '{"epoch": 1, "seconds": "5", "images_per_second": 1.0}',
        '{"epoch": 1, "seconds": 5.0, "images_per_second": null}',
        '{"epoch": [1], "seconds": 5.0, "images_per_second": 1.0}',
    ],
)
def test_times_that_are_none_are_said_and_lost(whole_run, small, line):
    (whole_run / "timing.jsonl").write_text(line + "\n")
    records = run(whole_run, small, resume=True)
    assert "contains invalid ones" in records[0].notices[0]
    assert records[-1].summary["training_seconds"] is None


def test_what_an_epoch_resumed_in_its_middle_took_is_unknown(tmp_path, small, monkeypatch):
    folder = tmp_path / "stopped"
    run(folder, small, epochs=1, stop_after=4)
    seconds = itertools.count()
    monkeypatch.setattr(group, "time", SimpleNamespace(perf_counter=lambda: next(seconds)))
    summary = run(folder, small, epochs=1, resume=True)[-1].summary
    assert summary["training_seconds"] is None
    assert summary["images_per_second"] == 6 * 100  # of the six steps that were left, in a second
    assert json.loads((folder / "timing.jsonl").read_text())["seconds"] is None
    again = run(folder, small, epochs=1, resume=True)  # which is no damage
    assert again[0].notices == ()


def test_a_long_epoch_is_saved_before_it_is_evaluated(tmp_path, small, whole_run, monkeypatch):
    folder, evaluate = tmp_path / "killed", group.evaluate_runs
    calls = itertools.count(1)

    def killed(*args):
        if next(calls) == 2:
            raise MemoryError("killed")
        return evaluate(*args)

    monkeypatch.setattr(group, "_LONG_EPOCH_S", 0.0)
    monkeypatch.setattr(group, "evaluate_runs", killed)
    with pytest.raises(MemoryError):
        run(folder, small)
    again = run(folder, small, resume=True)
    trained = [one for one in again if isinstance(one, BatchDone)]
    assert not any(one.epoch == 2 for one in trained)
    assert (folder / "metrics.jsonl").read_bytes() == (whole_run / "metrics.jsonl").read_bytes()


def test_the_rate_of_a_run_is_the_median_of_its_epochs():
    """The first of them holds the compilation."""
    lines = [{"seconds": 1.0, "images_per_second": rate} for rate in (100, 1000, 900)]
    expected = {"training_seconds": 3.0, "images_per_second": 900, "trained_together": 1}
    assert timing_of(lines, 3) == expected
    assert timing_of([*lines, lines[1] | {"trained_together": 5}], 4) == {
        "training_seconds": 4.0,
        "images_per_second": 950,
        "trained_together": 5,
    }
    assert timing_of([*lines, lines[0] | {"seconds": None}], 4)["training_seconds"] is None
    assert timing_of(lines, 4)["training_seconds"] is None


def test_every_epoch_has_an_order_of_its_own():
    fake = SimpleNamespace(_trained_on=np.arange(100, 200), config=load_config(None, ["run.seed=3"]).config)
    orders = [Run.order(fake, epoch) for epoch in (0, 1, 0)]
    assert all(np.array_equal(np.sort(order), fake._trained_on) for order in orders)
    assert np.array_equal(orders[0], orders[2])
    assert not np.array_equal(orders[0], orders[1])


def test_the_weights_are_read_at_the_step_of_the_evaluation():
    """With noise on reading they are others at every step; `hep eval` takes that of the checkpoint."""
    steps = []
    task = SimpleNamespace(
        weights_as_read=lambda params, config, step: steps.append(step) or params,
        split=lambda name: SimpleNamespace(labels=np.zeros(3)),
        feed=lambda name: None,
        evaluator=lambda *arguments, **options: {},
    )
    data, state = SimpleNamespace(eval_batch_size=2), SimpleNamespace(params={})
    fake = SimpleNamespace(
        task=task, config=SimpleNamespace(data=data), state=state, step=7, held_out=np.array([])
    )
    evaluate_runs([fake], lambda: False)
    assert steps == [7]


def test_a_damaged_checkpoint_is_reported_and_the_one_before_used(tmp_path, small, whole_run):
    folder = tmp_path / "stopped"
    run(folder, small, stop_after=25)
    steps = CheckpointStore(folder / "checkpoints").steps()
    flip_a_byte(folder / "checkpoints" / str(steps[-1]))
    records = run(folder, small, resume=True)
    assert str(steps[-1]) in records[0].notices[0]
    assert (folder / "metrics.jsonl").read_bytes() == (whole_run / "metrics.jsonl").read_bytes()


def test_without_an_intact_checkpoint_nothing_starts_afresh(tmp_path, small):
    folder = tmp_path / "stopped"
    run(folder, small, stop_after=25)
    for step in CheckpointStore(folder / "checkpoints").steps():
        flip_a_byte(folder / "checkpoints" / str(step))
    before = contents(folder)
    with pytest.raises(CheckpointError, match="No intact checkpoint"):
        run(folder, small, resume=True)
    assert contents(folder) == before


def flip_a_byte(step_folder: Path) -> None:
    largest = max((file for file in step_folder.rglob("*") if file.is_file()), key=lambda f: f.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)


def test_resuming_a_finished_run_changes_nothing(small, whole_run):
    metrics = (whole_run / "metrics.jsonl").read_bytes()
    assert isinstance(run(whole_run, small, resume=True)[-1], Finished)
    assert (whole_run / "metrics.jsonl").read_bytes() == metrics


def test_more_epochs_continue_a_constant_schedule(tmp_path, small, whole_run):
    folder = tmp_path / "longer"
    run(folder, small, epochs=2)
    run(folder, small, epochs=EPOCHS, resume=True)
    assert (folder / "metrics.jsonl").read_bytes() == (whole_run / "metrics.jsonl").read_bytes()
    text = (folder / "config.toml").read_text()
    assert tomllib.loads(text)["run"]["epochs"] == EPOCHS
    assert text == (whole_run / "config.toml").read_text()  # with where every value came from


def test_an_epoch_that_has_begun_cannot_be_left_out(tmp_path, small):
    run(tmp_path / "run", small, epochs=2, stop_after=15)
    with pytest.raises(ConfigError, match=r"run\.epochs = 1: .* has already reached epoch 2"):
        run(tmp_path / "run", small, epochs=1, resume=True)


def test_fewer_epochs_than_are_done_are_refused(small, whole_run):
    before = contents(whole_run)
    with pytest.raises(ConfigError, match=r"run\.epochs = 1: .* epoch 3"):
        run(whole_run, small, epochs=1, resume=True)
    assert contents(whole_run) == before


def test_more_epochs_of_a_cosine_schedule_say_what_becomes_of_the_rate(tmp_path, small):
    overrides = (*small, "optimizer.schedule=cosine", "optimizer.learning_rate=0.1")
    run(tmp_path / "run", overrides, epochs=1)
    longer = run(tmp_path / "run", overrides, epochs=2, resume=True)
    assert "(learning rate 0);" in longer[0].notices[-1]
    assert "the schedule for 2 epochs is used (learning rate 0.05)." in longer[0].notices[-1]  # half-way down
    assert isinstance(longer[-1], Finished)
    assert not run(tmp_path / "run", overrides, epochs=2, resume=True)[0].notices
    assert longer[-1].summary["earlier_schedules"] == [{"step": 10, "epochs": 1}]
    longest = run(tmp_path / "run", overrides, epochs=3, resume=True)[-1].summary
    assert longest["earlier_schedules"] == [{"step": 10, "epochs": 1}, {"step": 20, "epochs": 2}]


@pytest.mark.parametrize(
    ("change", "key"),
    [("run.seed=1", "run.seed"), ("network.layers.l1.units=20", "network.layers.l1.units")],
)
def test_a_changed_preset_is_not_resumed(small, whole_run, change, key):
    before = contents(whole_run)
    with pytest.raises(ConfigError, match=key):
        run(whole_run, (*small, change), resume=True)
    with pytest.raises(ConfigError, match=r"data\.name"):
        run(whole_run, small, resume=True, preset="fashion-mnist")
    assert contents(whole_run) == before


def test_a_folder_that_holds_a_run_is_refused(small, whole_run):
    before = contents(whole_run)
    with pytest.raises(OutputError, match="already contains a run") as error:
        run(whole_run, small)
    assert "--resume" in error.value.advice
    assert contents(whole_run) == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("data.batch_size=2000",), "data.batch_size = 2000"),
        (
            ("network.readout=false", "network.loss=squared_error", "network.layers.out.units=7"),
            "out.units = 7",
        ),
        (("optimizer.learning_rate=-1",), "optimizer.learning_rate"),
        (("relaxation.free_stepz=3",), "free_steps"),
    ],
)
def test_bad_settings_write_nothing(tmp_path, small, overrides, message):
    with pytest.raises(ConfigError, match=message):
        run(tmp_path / "run", (*small, *overrides))
    assert list(tmp_path.iterdir()) == []


def test_weights_to_begin_with_that_are_missing_write_nothing(tmp_path, small):
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        run(tmp_path / "run", (*small, f"run.init_from={tmp_path}/nowhere:10"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["metrics.jsonl", "timing.jsonl", "curves.png", "init_from.json"])
def test_a_run_replaces_no_files_of_the_users_own(tmp_path, small, name):
    (tmp_path / "run").mkdir()
    own = tmp_path / "run" / name
    own.write_text("mine")
    with pytest.raises(OutputError, match=name.replace(".", r"\.")):
        run(tmp_path / "run", small)
    assert own.read_text() == "mine"


@pytest.mark.parametrize(
    ("method", "radius", "said"), [("hep", 1e-5, True), ("hep", 1e-3, False), ("hep_exact", 1e-5, False)]
)
def test_nudges_that_rounding_outweighs_are_noticed(tmp_path, small, method, radius, said):
    own = (f"gradient.method={method}", f"gradient.beta_radius={radius}")
    notices = run(tmp_path / "run", (*small, *own))[0].notices
    assert any("rounding" in notice for notice in notices) == said


@pytest.mark.parametrize(
    ("own", "said"),
    [((), True), (("relaxation.unsettled=skip",), False), (("gradient.adjoint_steps=20",), False)],
)
def test_adjoints_that_grow_without_bounds_are_noticed(tmp_path, small, own, said):
    notices = run(tmp_path / "run", (*small, "gradient.method=rbp", *own))[0].notices
    assert any("has not settled, its adjoint may grow" in notice for notice in notices) == said


def test_a_folder_that_cannot_be_written(tmp_path, small):
    (tmp_path / "file").write_text("in the way")
    for out in ("file", "file/run"):
        with pytest.raises(OutputError, match="file is a file, not a folder"):
            run(tmp_path / out, small)


def test_resume_needs_a_run(tmp_path, small):
    with pytest.raises(CheckpointError, match="no run to resume"):
        run(tmp_path / "nothing", small, resume=True)
    with pytest.raises(ConfigError, match="needs the folder of the run"):
        run(None, small, resume=True)


def test_two_processes_do_not_train_into_one_folder(tmp_path, small):
    first = train(TrainRequest(None, small, {"run.epochs": 2}, tmp_path / "run"))
    next(first)
    with pytest.raises(OutputError, match="Another process"):
        run(tmp_path / "run", small, epochs=2)
    first.close()


def test_divergence_stops_the_run_and_keeps_what_was_finite(tmp_path, small):
    overrides = (*small, "optimizer.learning_rate=1e38")
    with pytest.raises(DivergenceError, match=r"step \d+ is (nan|inf)"):
        run(tmp_path / "run", overrides)
    assert CheckpointStore(tmp_path / "run" / "checkpoints").steps() == [0]


def test_a_run_ends_where_another_of_its_processes_failed(tmp_path, small, monkeypatch):
    """At the end of the epoch that could not be recorded there, not in the next exchange with it."""
    elsewhere = ProcessError("Another process of this run failed.", "See its output.")
    monkeypatch.setattr("hepcli.experiments.group.failed_elsewhere", lambda failed: elsewhere)
    with pytest.raises(ProcessError):
        run(tmp_path / "run", small)
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1


def test_weights_that_are_not_finite_are_never_saved(tmp_path, small, monkeypatch):
    """The update of the last step overflowed: its own loss is still that of the weights before."""
    spoil = Group._hand_back

    def hand_back(self):
        spoil(self)
        params = jax.tree.map(lambda leaf: leaf.at[...].set(jnp.nan), self.first.state.params)
        self.first.state = self.first.state._replace(params=params)

    monkeypatch.setattr(Group, "_hand_back", hand_back)
    with pytest.raises(DivergenceError, match="After step 10 the weights"):
        run(tmp_path / "run", small)
    assert CheckpointStore(tmp_path / "run" / "checkpoints").steps() == [0]
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


LOSSES = ("cross_entropy", "squared_error")


def methods_and_losses():
    """Each method with a loss that it takes, in turn; hep with both."""
    for place, (method, estimator) in enumerate(ESTIMATORS.items()):
        if estimator.clamps_output:
            yield method, "squared_error"
        elif method == "hep":
            yield from ((method, loss) for loss in LOSSES)
        else:
            yield method, LOSSES[place % 2]


@pytest.mark.parametrize(("method", "loss"), list(methods_and_losses()))
def test_every_method_trains(tmp_path, small, method, loss):
    overrides = (*small, f"gradient.method={method}", f"network.loss={loss}", "gradient.num_points=3")
    overrides += ("gradient.adjoint_steps=6", "gradient.beta_radius=0.1", "gradient.online_cycles=2")
    if loss == "squared_error":
        overrides += ("network.readout=false",)
    run(tmp_path / "run", overrides, epochs=1)
    line = json.loads((tmp_path / "run/metrics.jsonl").read_text())
    assert line["train"]["nonfinite"] == 0
    assert np.isfinite(line["train"]["loss"])
    assert (line["train"]["nudged_log10_residual"] is None) == (method in ("bptt", "feedforward"))


PAPERS_IMAGES = ("cifar10", "cifar100", "imagenet32")
TRACED = (*PAPERS_IMAGES, "cifar10-vgg5", "cifar10-hopfield-resnet13", "cifar10-hopfield-resnet-small")


@pytest.mark.parametrize("preset", [preset.name for preset in list_presets() if preset.name not in TRACED])
def test_every_preset_takes_steps(tmp_path, preset):
    """The convolutional network narrower and with fewer steps than it is."""
    overrides = ["data.batch_size=500"]
    if preset.startswith("cifar10"):
        overrides += [f"network.layers.{name}.channels=4" for name in ("conv1", "conv2", "out")]
        overrides += ["relaxation.free_steps=3", "relaxation.nudged_steps=2", "homeostasis.num_draws=1"]
    records = run(tmp_path / preset, tuple(overrides), preset=preset, epochs=1)
    assert isinstance(records[-1], Finished)


@pytest.mark.parametrize("preset", TRACED)
def test_large_presets_trace_at_full_width(preset):
    """From pixels to updated parameters, without compiling: a run of them is no test."""
    config = load_config(preset).config
    task = Task(config, layout=Layout(jax.local_devices()[:1]))
    state = jax.eval_shape(lambda: task.fresh_state(config))
    batch = next(task.feed("train").batches([np.arange(config.data.batch_size)]))
    after, loss = jax.eval_shape(task.train_step([config]), state, *batch)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )
    assert (loss.shape, loss.dtype) == ((), np.float32)
    if preset in PAPERS_IMAGES:
        shapes = {"conv1": (16, 16, 128), "conv2": (8, 8, 256), "conv3": (4, 4, 512), "out": (1, 1, 512)}
        assert task.network.unit_shapes == shapes


def test_measures_after_every_epoch(tmp_path, small, monkeypatch):
    monkeypatch.setattr(Measurement, "figures", lambda measurement, record: {})  # takes longer than the rest
    run(tmp_path / "run", (*small, "run.measure_examples=3", "network.initial_angle_deg=70"), epochs=2)
    text = (tmp_path / "run/metrics.jsonl").read_text()
    lines = [json.loads(line)["asymmetry"] for line in text.splitlines()]
    assert [line["examples"] for line in lines] == [3, 3]
    assert lines[0] != lines[1]
    assert 0 < lines[1]["jacobian_symmetry"] < 1
    measured = list(measure(MeasureRequest(tmp_path / "run", examples=3, out=tmp_path / "out")))[-1].result
    for name in ("cosine", "relative_error"):
        assert lines[1][name] == {bias: table["total"] for bias, table in measured[name].items()}
    assert lines[1]["gradient_cosine"] == measured["gradient_cosine"]["total"]
    run(tmp_path / "unmeasured", (*small, "network.initial_angle_deg=70"), epochs=2)
    unmeasured = (tmp_path / "unmeasured/metrics.jsonl").read_text()
    without = [json.loads(line) | {"asymmetry": None} for line in text.splitlines()]
    assert without == [json.loads(line) | {"asymmetry": None} for line in unmeasured.splitlines()]
    with pytest.raises(ConfigError, match=r"run\.measure_examples = 201: .* has 200 examples"):
        run(tmp_path / "more", (*small, "run.measure_examples=201"), epochs=1)
    assert not (tmp_path / "more").exists()


def test_errors_are_ours(tmp_path):
    """Whatever a user gets wrong arrives as one exception class with advice."""
    with pytest.raises(HepError) as error:
        run(tmp_path / "run", (), preset="quickstrat")
    assert "quickstart" in error.value.what
    assert error.value.advice


def test_a_configuration_edited_after_training_began_is_noticed(whole_run):
    file = whole_run / "config.toml"
    text = file.read_text()
    file.write_text(text.replace("learning_rate = 0.01 ", "learning_rate = 1.0 "))
    with pytest.raises(ConfigError, match=r"optimizer\.learning_rate = 1\.0: .* started with 0\.01"):
        run(whole_run, (), resume=True, epochs=None)
    file.write_text(text)
    assert isinstance(run(whole_run, (), resume=True, epochs=None)[-1], Finished)


def test_another_data_set_of_the_same_name_is_noticed(tmp_path, small):
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 10

    def import_own(folder):
        images = rng.integers(0, 256, (400, 28, 28), dtype=np.uint8)
        np.savez(tmp_path / "a.npz", images=images, labels=labels)
        import_data("mine", tmp_path / "a.npz", folder, silent)
        return folder

    here, other = import_own(tmp_path / "here"), import_own(tmp_path / "other")
    settings = (*small, "data.name=mine", "data.batch_size=50")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hepcli.experiments.task.load_split", load_split)

        def train_with(data_dir, **more):
            request = TrainRequest(None, settings, {"run.epochs": 2}, tmp_path / "own", data_dir=data_dir)
            return list(train(request._replace(**more)))

        train_with(here)
        before = contents(tmp_path / "own")
        with pytest.raises(DatasetError, match="was trained on other examples"):
            train_with(other, resume=True, overrides=(), flags={"run.epochs": 3})
        with pytest.raises(DatasetError, match="was trained on other examples"):
            evaluate(tmp_path / "own", data_dir=other)
        assert contents(tmp_path / "own") == before
        assert evaluate(tmp_path / "own", data_dir=here)[0]["examples"] == 60
        export(tmp_path / "own", tmp_path / "w.npz", data_dir=other)


@pytest.mark.draws
def test_a_picture_that_fails_takes_nothing_from_a_finished_run(whole_run, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("no fonts")

    monkeypatch.setattr("hepcli.experiments.run.draw_figure", fail)
    (whole_run / "summary.json").unlink()
    last = run(whole_run, (), resume=True, epochs=None)[-1]
    assert isinstance(last, Finished)
    assert last.notices == ("curves.png could not be drawn: RuntimeError: no fonts",)
    assert (whole_run / "summary.json").exists()


@pytest.mark.parametrize("harm", ["upoch", "im!ges_per_second"])
def test_timing_that_lacks_entries_is_said_and_ends_nothing(whole_run, harm):
    file = whole_run / "timing.jsonl"
    key = "epoch" if harm == "upoch" else "images_per_second"
    file.write_text(file.read_text().replace(key, harm, 1))
    records = run(whole_run, (), resume=True, epochs=None)
    assert any("lacks entries" in notice for notice in records[0].notices)
    assert records[-1].summary["training_seconds"] is None


def test_an_epoch_whose_measures_fail_is_kept(tmp_path, small, monkeypatch):
    settings = (*small, "run.measure_examples=3")
    run(tmp_path / "whole", settings, epochs=1)

    def fail(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    with monkeypatch.context() as patch:
        patch.setattr("hepcli.experiments.split_meter.SplitMeter.measures", fail)
        with pytest.raises(jax.errors.JaxRuntimeError):
            run(tmp_path / "run", settings, epochs=1)
    assert CheckpointStore(tmp_path / "run/checkpoints").steps()[-1] == 10
    resumed = run(tmp_path / "run", (), resume=True, epochs=None)
    assert not any(isinstance(record, BatchDone) for record in resumed[:-2])
    lines = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "run")]
    assert lines[0] == lines[1]
