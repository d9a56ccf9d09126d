"""Runs that are resumed: exact, and refused where they would be another run."""

import itertools
import json
import tomllib
from types import SimpleNamespace

import numpy as np
import pytest

from hepcli.checkpoints import CheckpointStore
from hepcli.data import import_data, load_split, silent
from hepcli.errors import CheckpointError, ConfigError, DatasetError
from hepcli.experiments import group
from hepcli.experiments.evaluate import evaluate
from hepcli.experiments.train import Finished, Interrupted, RunStarted, TrainRequest, train
from hepcli.experiments.weights import export

from .runs import EPOCHS, contents, final_params, flip_a_byte, run

pytestmark = pytest.mark.usefixtures("small_data")


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


def test_a_run_may_go_on_with_fewer_examples_at_once(tmp_path, small, whole_run):
    """As on a smaller device: what follows is the same up to rounding, and the user is told."""
    folder = tmp_path / "run"
    run(folder, small, stop_after=15)
    parts = (*small, "data.accumulate=2", "data.eval_batch_size=50")
    records = run(folder, parts, resume=True)
    notices = "".join(records[0].notices)
    assert "data.accumulate = 2: it was 1 up to here" in notices
    assert "data.eval_batch_size = 50" in notices
    ours, theirs = (
        [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        for path in (folder, whole_run)
    )
    assert ours[0] == theirs[0]
    for key in ("train", "test"):
        assert ours[-1][key]["loss"] == pytest.approx(theirs[-1][key]["loss"], rel=1e-3)
    again = run(folder, parts, resume=True)
    assert not any("up to here" in notice for notice in again[0].notices)


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


def test_resume_needs_a_run(tmp_path, small):
    with pytest.raises(CheckpointError, match="no run to resume"):
        run(tmp_path / "nothing", small, resume=True)
    with pytest.raises(ConfigError, match="needs the folder of the run"):
        run(None, small, resume=True)


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


@pytest.mark.parametrize("harm", ["upoch", "im!ges_per_second"])
def test_timing_that_lacks_entries_is_said_and_ends_nothing(whole_run, harm):
    file = whole_run / "timing.jsonl"
    key = "epoch" if harm == "upoch" else "images_per_second"
    file.write_text(file.read_text().replace(key, harm, 1))
    records = run(whole_run, (), resume=True, epochs=None)
    assert any("lacks entries" in notice for notice in records[0].notices)
    assert records[-1].summary["training_seconds"] is None
