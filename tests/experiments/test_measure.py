"""`measure`: the promised keys, along a run, without training, and refusals that lose nothing."""

import errno
import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest

from hepcli.errors import CheckpointError, ConfigError, OutputError
from hepcli.experiments.measure import (
    Measured,
    MeasureRequest,
    StepSkipped,
    measure,
)
from hepcli.experiments.measurement import Measurement, StepMeasured, map_axis
from hepcli.experiments.set_aside import set_aside
from hepcli.experiments.train import TrainRequest, train
from hepcli.experiments.weights import export
from hepcli.files import held, lock

pytestmark = pytest.mark.usefixtures("small_data")
EXAMPLES = 5
BIASES = {"finite_nudge", "asymmetry", "total"}
LAYERS = {"l1", "l2", "out", "total"}


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    """References of small networks converge early; the pictures take most of the time."""
    monkeypatch.setattr("hepcli.experiments.measurement._PICTURE_EXAMPLES", 2)
    monkeypatch.setattr("hepcli.experiments.measurement._MAP_POINTS", 5)
    monkeypatch.setattr("hepcli.experiments.measurement._PICTURE_NUMBERS", (1, 2, 3))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return tmp_path_factory.mktemp("measured") / "run"


@pytest.fixture
def run(trained, small):
    """Two epochs of the small network, all steps kept; trained once for the module."""
    if not trained.exists():
        overrides = (*small, "checkpoints.keep_every_epochs=1", "network.initial_angle_deg=60.0")
        list(train(TrainRequest(None, overrides, {"run.epochs": 2}, trained)))
    return trained


def records(**request):
    return list(measure(MeasureRequest(examples=EXAMPLES, **request)))


def test_the_promised_keys(run, tmp_path):
    measured, done = records(checkpoint=run, out=tmp_path / "out")
    assert isinstance(measured, StepMeasured)
    assert isinstance(done, Measured)
    record = done.result
    plain = {"step", "examples", "weight_angle_deg", "jacobian_symmetry", "homeostatic_loss"}
    plain |= {"spectral_radius", "log10_residual"}
    assert plain | {"cosine", "relative_error", "gradient_cosine"} <= record.keys()
    assert (record["step"], record["examples"]) == (20, EXAMPLES)
    for measure_name in ("cosine", "relative_error"):
        assert record[measure_name].keys() == BIASES
        assert all(table.keys() == LAYERS for table in record[measure_name].values())
    connections = {"in-l1", "l1-l2", "l2-l1", "l2-out", "out-l2"}
    assert record["gradient_cosine"].keys() == connections | {"total"}
    assert json.loads((tmp_path / "out/measures.json").read_text()) == record
    for file in ("biases.png", "spectrum.png", "stability-map.png", "convergence.png"):
        assert (tmp_path / "out" / file).read_bytes().startswith(b"\x89PNG")
        assert file in record["figures"]
    assert not jax.config.jax_enable_x64  # the precision of the caller is its own


def test_along_a_run(run, tmp_path):
    *measured, done = records(checkpoint=run, all_steps=True, out=tmp_path / "out")
    steps = done.result["steps"]
    assert [(record["step"], record["epoch"]) for record in steps] == [(0, 0), (10, 1), (20, 2)]
    assert [found.record for found in measured] == steps
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["test_top1"] for record in steps] == [None, *(line["test"]["top1"] for line in history)]
    assert steps[1]["weight_angle_deg"] == pytest.approx(history[0]["weight_angle_deg"], abs=1e-3)
    assert (tmp_path / "out/along-run.png").read_bytes().startswith(b"\x89PNG")
    alone = records(checkpoint=run / "checkpoints/10", out=tmp_path / "alone")[0].record
    assert alone == steps[1]


def test_a_damaged_step_is_reported_and_the_others_measured(run, tmp_path):
    import shutil

    copy = shutil.copytree(run, tmp_path / "copy")
    manifest = copy / "checkpoints/10/manifest.json"
    manifest.write_text(manifest.read_text().replace("sha256", "sha257"))
    found = records(checkpoint=copy, all_steps=True)
    assert [record.record["step"] for record in found if isinstance(record, StepMeasured)] == [0, 20]
    (skipped,) = [record for record in found if isinstance(record, StepSkipped)]
    assert "10" in skipped.reason
    assert (copy / "asymmetry/measures.json").exists()
    with pytest.raises(CheckpointError, match="is damaged"):
        records(checkpoint=copy, step=10)


def test_an_untrained_loop_has_no_angle(small, tmp_path, monkeypatch):
    monkeypatch.setattr(Measurement, "figures", lambda measurement, record: {})
    overrides = (*small, "data.name=fashion_mnist_mini")
    preset = "fashion-mnist-loop"
    measured, done = records(preset=preset, seed=3, overrides=overrides, out=tmp_path / "out")
    assert measured.record["weight_angle_deg"] is None
    assert "No two layers are connected in both directions" in " ".join(measured.record["notes"])
    assert measured.record["checkpoint"] is None
    assert measured.record["jacobian_symmetry"] < 0.999
    assert done.folder == tmp_path / "out"
    other = records(preset=preset, seed=4, overrides=overrides, out=tmp_path / "other")[0].record
    assert other["cosine"] != measured.record["cosine"]


@pytest.mark.parametrize(
    ("request_", "error", "says"),
    [
        ({"examples": 500}, ConfigError, "has 200"),
        ({"examples": 0}, ConfigError, "has 200"),
        ({"step": 7}, CheckpointError, "no step 7"),
        ({"step": 10, "all_steps": True}, ConfigError, "all-steps"),
        ({"seed": 1}, ConfigError, "--seed"),
        ({"init_from": "else.npz"}, ConfigError, "--init-from"),
        ({"preset": "quickstart"}, ConfigError, "cannot be combined"),
        ({"overrides": ("gradient.methd=hep",)}, ConfigError, "gradient.method"),
        ({"overrides": ("network.layers.l1.units=9",)}, CheckpointError, "another network"),
    ],
)
def test_refusals(run, tmp_path, request_, error, says):
    with pytest.raises(error, match=says):
        list(measure(MeasureRequest(run, out=tmp_path / "out", **({"examples": EXAMPLES} | request_))))
    assert not (tmp_path / "out/measures.json").exists()


def test_nothing_to_measure(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        records(checkpoint=tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="not \\(part of\\) a run"):
        records(checkpoint=tmp_path)
    with pytest.raises(ConfigError, match="--step"):
        records(checkpoint=None, preset="quickstart", step=3)
    with pytest.raises(ConfigError, match="quickstart"):
        records(checkpoint=None, preset="quickstrat")


def test_results_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file is a file, not a folder"):
        records(checkpoint=run, out=tmp_path / "file" / "out")


def test_a_folder_that_cannot_be_written_is_noticed_before_anything_is_measured(run, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    (tmp_path / "out").mkdir()
    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(OutputError, match="Read-only file system"):
        next(measure(MeasureRequest(run, examples=EXAMPLES, out=tmp_path / "out")))


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "null", '{"steps": 3}', '{"steps": []}', '{"steps": {"0": 1}}', "[" * 100_000]
)
def test_whatever_is_replaced_is_kept_and_said(tmp_path, text):
    file = tmp_path / "measures.json"
    assert set_aside(file, {}) is None
    file.write_text(text)
    assert "was not written by hep" in set_aside(file, {})
    assert (tmp_path / "measures.1.json").read_text() == text
    assert not file.exists()


def test_measures_of_other_settings_and_steps_are_kept(run, tmp_path, small, monkeypatch):
    def draw(_, file):
        for own in (file, file.with_name(f"{file.stem}.figure.json")):
            own.write_text("")

    monkeypatch.setattr(Measurement, "figures", lambda measurement, record: {"map": None})
    monkeypatch.setattr("hepcli.experiments.measure.draw_figure", draw)

    def said(**request):
        return [n for n in records(out=tmp_path, **request)[-1].notices if "measures.json" in n]

    assert not said(checkpoint=run, all_steps=True)
    whole = json.loads((tmp_path / "measures.json").read_text())
    assert not (tmp_path / "measures.partial.json").exists()
    assert "(steps); it is now measures.1.json" in said(checkpoint=run, step=20)[0]
    kept = json.loads((tmp_path / "measures.1.json").read_text())
    assert kept == whole | {"figures": ["along-run.1.png"]}
    assert not said(checkpoint=run, step=20)
    assert "(gradient)" in said(checkpoint=run, step=20, overrides=["gradient.beta_radius=0.4"])[0]
    kept = json.loads((tmp_path / "measures.2.json").read_text())
    assert kept["figures"] == ["map.2.png"]
    assert all((tmp_path / name).exists() for name in ("map.2.png", "map.2.figure.json", "map.png"))
    said(preset="quickstart", overrides=small)
    angle = (*small, "network.initial_angle_deg=90")
    assert "(configuration)" in said(preset="quickstart", overrides=angle)[0]


def test_steps_that_an_interrupted_command_measured_are_not_measured_again(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Measurement, "along", lambda measurement, records: {})
    monkeypatch.setattr(Measurement, "figures", lambda measurement, record: {})
    whole = records(checkpoint=run, out=tmp_path / "whole", all_steps=True)[-1].result
    partial = tmp_path / "out/measures.partial.json"

    def interrupted():
        for outcome in measure(MeasureRequest(run, examples=EXAMPLES, out=tmp_path / "out", all_steps=True)):
            assert isinstance(outcome, StepMeasured)
            if outcome.record["step"] == 10:
                return

    interrupted()
    records(checkpoint=run, out=tmp_path / "out")  # of a single step: what is there stays
    assert [step["step"] for step in json.loads(partial.read_text())["steps"]] == [0, 10]
    saved, measured = Measurement.saved, []

    def spy(measurement, run, step):
        measured.append(step)
        return saved(measurement, run, step)

    monkeypatch.setattr(Measurement, "saved", spy)
    first, *_, done = records(checkpoint=run, out=tmp_path / "out", all_steps=True)
    assert (measured, done.result) == ([20], whole)
    assert first.notices == (f"2 steps were measured before: continuing {partial}.",)
    assert not partial.exists()
    interrupted()
    first, *_ = records(checkpoint=run, out=tmp_path / "out", all_steps=True, split_name="train")
    assert "steps of another run or other settings; it is now measures.partial." in first.notices[0]


def test_no_other_command_writes_between_measures_and_their_figures(run, tmp_path, monkeypatch):
    """Else the measures of one would be replaced without a word, and figures be of another's."""
    locked = []

    def figures(measurement, record):
        with (tmp_path / "measures.json").open() as file:
            assert json.load(file)["step"] == 20
        handle = os.open(tmp_path, os.O_RDONLY)
        locked.append(not lock(handle, wait=False))
        os.close(handle)
        return {}

    monkeypatch.setattr(Measurement, "figures", figures)
    records(checkpoint=run, out=tmp_path)
    assert locked == [True]
    with held(tmp_path) as alone:
        assert alone


@pytest.mark.parametrize("points", [13, 21])
@pytest.mark.parametrize("radius", [0.05, 0.11, 0.45, 0.9, 1.8])
def test_the_axis_of_a_map_has_a_zero(radius, points):
    axis, upper = map_axis(4 * radius, points)
    assert len(axis) == points == 2 * len(upper) - 1
    assert upper[0] == 0
    np.testing.assert_array_equal(axis, -axis[::-1])


def test_where_nudges_must_be_real_the_other_figures_are_drawn(tmp_path, small):
    overrides = (*small, "network.activation=hard_sigmoid")
    done = records(preset="quickstart", overrides=overrides, out=tmp_path)[-1].result
    assert done["figures"] == ["biases.png", "spectrum.png"]
    assert any("is not holomorphic" in note for note in done["notes"])


def test_a_repetition_with_groups_of_layers_is_one(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Measurement, "figures", lambda measurement, record: {})
    overrides = ['relaxation.order=[["l1","out"],["l2"]]']
    for _ in range(2):
        done = records(checkpoint=run, out=tmp_path, overrides=overrides)[-1]
        assert not [notice for notice in done.notices if "measures.json" in notice]


def test_weights_from_elsewhere_are_measured_as_the_run_they_came_from(run, small, tmp_path, monkeypatch):
    monkeypatch.setattr(Measurement, "figures", lambda measurement, record: {})
    file, _ = export(run, tmp_path / "weights.npz")
    own = records(checkpoint=run, out=tmp_path / "own")[0].record
    request = {"preset": "quickstart", "overrides": small, "init_from": str(file), "out": tmp_path / "out"}
    found, done = records(**request)
    assert found.record["init_from"]["file"] == str(file)
    assert {key: found.record[key] for key in ("cosine", "weight_angle_deg")} == {
        key: own[key] for key in ("cosine", "weight_angle_deg")
    }
    assert done.result["step"] == 0
    np.savez(tmp_path / "other.npz", fc1=np.ones((16, 784)))
    with pytest.raises(CheckpointError, match="no weights match") as error:
        records(**(request | {"init_from": str(tmp_path / "other.npz")}))
    assert error.value.what.endswith("It has:\n  fc1 [16, 784]")
