"""`hep eval` gives what training measured, and refuses what it cannot give."""

import copy
import json
import shutil

import pytest

from hepcli.config import load_config
from hepcli.errors import CheckpointError, ConfigError
from hepcli.experiments.evaluate import evaluate
from hepcli.experiments.measure import MeasureRequest, measure
from hepcli.experiments.records import newer_line
from hepcli.experiments.train import TrainRequest, train
from hepcli.experiments.unchanged import check_config

pytestmark = pytest.mark.usefixtures("small_data")
KEYS = ["dataset", "split", "examples", "loss", "top1", "top5", "log10_residual", "converged"]


@pytest.fixture
def run(tmp_path, small):
    folder = tmp_path / "run"
    list(train(TrainRequest(None, small, {"run.epochs": 2}, folder)))
    return folder


def test_it_agrees_with_the_last_line_of_training(run):
    record, notices = evaluate(run)
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert list(record)[:8] == KEYS
    assert {key: record[key] for key in ("loss", "top1", "top5", "log10_residual", "converged")} == {
        key: last["test"]["settled" if key == "converged" else key]
        for key in ("loss", "top1", "top5", "log10_residual", "converged")
    }
    assert (record["step"], record["examples"], notices) == (20, 200, ())
    assert json.loads((run / "metrics.jsonl").read_text().splitlines()[0])["step"] == 10


@pytest.mark.parametrize("inside", ["", "checkpoints", "checkpoints/20"])
def test_a_checkpoint_may_be_named_in_three_ways(run, inside):
    assert evaluate(run / inside)[0]["step"] == 20


def test_another_split_step_and_setting(run):
    assert evaluate(run, "train")[0]["examples"] == 1000
    assert evaluate(run, step=10)[0]["step"] == 10
    longer, _ = evaluate(run, overrides=("relaxation.free_steps=200",))
    assert longer["log10_residual"] < evaluate(run)[0]["log10_residual"]


def test_validation_examples_are_those_of_the_run(tmp_path, small):
    """Whatever seed devices are drawn by."""
    overrides = (*small, "data.validation_examples=100", "hardware.mismatch_std=1e-6")
    folder = tmp_path / "run"
    list(train(TrainRequest(None, overrides, {"run.epochs": 1}, folder)))
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    other = evaluate(folder, "validation", overrides=("run.seed=1",))[0]
    assert other["loss"] == pytest.approx(last["validation"]["loss"], rel=1e-3)
    with pytest.raises(ConfigError, match="validation_examples = 200"):
        evaluate(folder, "validation", overrides=("data.validation_examples=200",))


def test_a_copied_run_evaluates_the_same(run, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    assert evaluate(tmp_path / "copy")[0] == evaluate(run)[0] | {
        "checkpoint": str(tmp_path / "copy/checkpoints/20")
    }


def test_refusals(run, tmp_path):
    with pytest.raises(CheckpointError, match="no step 7"):
        evaluate(run, step=7)
    with pytest.raises(CheckpointError, match="l1"):
        evaluate(run, overrides=("network.layers.l1.units=99",))
    with pytest.raises(ConfigError, match="--step is 10"):
        evaluate(run / "checkpoints/20", step=10)
    with pytest.raises(CheckpointError, match="does not exist"):
        evaluate(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("before", "after"),
    [("free_steps = 12", "free_steps = 13"), ("seed = 0", "seed = 1")],
)
def test_a_configuration_that_was_edited_since_is_refused(run, before, after):
    file = run / "config.toml"
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))
    key = before.split()[0]
    with pytest.raises(ConfigError, match=rf"{key} = 1.*changed since"):
        evaluate(run, overrides=("relaxation.free_steps=12",))
    with pytest.raises(ConfigError, match="changed since"):
        list(measure(MeasureRequest(run, examples=5)))


def test_a_damaged_configuration_is_named(run):
    file = run / "config.toml"
    file.write_text(file.read_text().replace("epochs = 2", "epochs = 0"))
    with pytest.raises(ConfigError, match=r"run/config\.toml: run\.epochs = 0: must be") as error:
        evaluate(run)
    assert "hep presets" not in error.value.advice


def test_the_newest_checkpoint_is_missed(run):
    """As long as any record tells of it; a step that was asked for is not missed."""
    shutil.rmtree(run / "checkpoints" / "20")
    record, notices = evaluate(run)
    assert record["step"] == 10
    assert notices == (f"Step 20 has no checkpoint, although {run}/summary.json ends there.",)
    first, *_ = measure(MeasureRequest(run, examples=2, all_steps=True))
    assert "Step 20 has no checkpoint" in first.reason
    (run / "summary.json").write_text("{")
    assert "metrics.jsonl ends there, unless it is being saved at this moment." in evaluate(run)[1][0]
    assert evaluate(run, step=10)[1] == ()
    (run / "metrics.jsonl").write_text("{\n")
    assert evaluate(run)[1] == ()


def test_a_damaged_step_is_named_once(run):
    (run / "checkpoints" / "20" / "manifest.json").unlink()
    (notice,) = evaluate(run)[1]
    assert notice.startswith("Step 20 is damaged")


def test_tables_that_were_emptied_and_layers_in_another_order_are_changes_too(tmp_path):
    config = load_config("quickstart").config
    trained = config.model_dump(mode="json")
    check_config(config, {"config": trained}, tmp_path)
    check_config(config, {}, tmp_path)  # older checkpoints do not tell
    older = copy.deepcopy(trained)
    del older["relaxation"]["unsettled"]
    check_config(config, {"config": older}, tmp_path)
    other = copy.deepcopy(trained)
    other["optimizer"]["learning_rate_multipliers"] = {"in-l1": 2.0}
    with pytest.raises(ConfigError, match=r"multipliers\.in-l1 = nothing"):
        check_config(config, {"config": other}, tmp_path)
    other = copy.deepcopy(trained)
    other["network"]["layers"] = dict(reversed(other["network"]["layers"].items()))
    with pytest.raises(ConfigError, match=r"network\.layers"):
        check_config(config, {"config": other}, tmp_path)


def test_lines_of_older_versions_are_read_under_the_names_of_this_one():
    old = {"epoch": 1, "train": {"converged": 0.5, "sweeps": 75.0, "loss": 1.0}, "test": {"top1": 0.5}}
    new = {"epoch": 1, "train": {"settled": 0.5, "passes": 75.0, "loss": 1.0}, "test": {"top1": 0.5}}
    assert newer_line(old) == newer_line(new) == new


def test_the_best_of_what_is_left_is_not_silently_another(tmp_path, small):
    folder = tmp_path / "run"
    overrides = (*small, "data.validation_examples=100", "checkpoints.keep_latest=3")
    list(train(TrainRequest(None, overrides, {"run.epochs": 2}, folder)))
    newest = max(int(step.name) for step in (folder / "checkpoints").iterdir())
    next((folder / "checkpoints" / str(newest) / "state").rglob("*manifest*")).write_bytes(b"")
    _, notices = evaluate(folder, step="best")
    assert any(line.startswith(f"Step {newest} is damaged") for line in notices)


def test_another_method_may_need_another_setting_of_training(tmp_path, small):
    folder = tmp_path / "run"
    list(train(TrainRequest(None, (*small, "relaxation.persistent_state=true"), {"run.epochs": 1}, folder)))
    plain = "relaxation.persistent_state=false"
    assert evaluate(folder, overrides=["gradient.method=dyadic_ep", plain])[0]["step"] == 10
    with pytest.raises(ConfigError, match="it matters only in training"):
        evaluate(folder, overrides=[plain])
