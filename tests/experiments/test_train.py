"""Runs: exact resume, refusals that lose nothing, and every preset and method taking steps."""

import itertools
import json
import tomllib
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.checkpoints import CheckpointStore
from hepcli.config import load_config
from hepcli.errors import CheckpointError, ConfigError, DivergenceError, HepError, OutputError, ProcessError
from hepcli.experiments import group
from hepcli.experiments.evaluated import evaluate_runs
from hepcli.experiments.group import Group
from hepcli.experiments.measure import MeasureRequest, measure
from hepcli.experiments.measurement import Measurement
from hepcli.experiments.run import Run
from hepcli.experiments.timing import timing_of
from hepcli.experiments.train import BatchDone, EpochDone, Finished, TrainRequest, train

from .runs import EPOCHS, contents, run

pytestmark = pytest.mark.usefixtures("small_data")


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


def test_an_epoch_in_which_no_example_settles_and_all_are_skipped_is_noticed(tmp_path, small):
    own = ("relaxation.unsettled=skip", "relaxation.free_steps=1", "relaxation.converged_residual=1e-9")
    records = list(train(TrainRequest(None, (*small, *own), {"run.epochs": 1}, tmp_path / "run")))
    (notice,) = [notice for record in records if isinstance(record, EpochDone) for notice in record.notices]
    assert notice.startswith("epoch 1: no training example settled")


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
