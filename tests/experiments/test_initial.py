"""Weights that leave a run and begin another: matched by name and shape, and what does not fit is said."""

import json

import jax
import numpy as np
import pytest

from hepcli.checkpoints import CheckpointStore
from hepcli.errors import CheckpointError, ConfigError
from hepcli.experiments.evaluate import evaluate
from hepcli.experiments.initial import initial_params
from hepcli.experiments.saved import SavedRun
from hepcli.experiments.train import TrainRequest, train
from hepcli.experiments.weights import METADATA, export, flat, read_weights

pytestmark = pytest.mark.usefixtures("small_data")


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    return tmp_path_factory.mktemp("source") / "run"


@pytest.fixture
def source(where, small):
    """A run of two epochs, trained once."""
    if not where.exists():
        list(train(TrainRequest(None, (*small, "data.validation_examples=100"), {"run.epochs": 2}, where)))
    return where


def weights_of(run, step=None):
    return flat(SavedRun(run).restore(step).state.params)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_exported_weights_are_the_runs_and_tell_where_they_come_from(tmp_path, source, suffix):
    file, _ = export(source, tmp_path / f"weights{suffix}", "best")
    if suffix == ".npz":
        with np.load(file) as opened:
            arrays = dict(opened)
        metadata = json.loads(str(arrays.pop(METADATA)))
    else:
        from safetensors import safe_open
        from safetensors.numpy import load_file

        arrays = load_file(file)
        with safe_open(file, framework="numpy") as opened:
            metadata = opened.metadata()
    step = SavedRun(source).restore_chosen("best").step
    own = weights_of(source, step)
    assert arrays.keys() == own.keys()
    assert all(np.array_equal(arrays[name], value) for name, value in own.items())
    assert json.loads(metadata["config"])["network"]["layers"]["l1"]["units"] == 16
    assert metadata["step"] == str(step)
    assert read_weights(file)[1] == metadata


def test_a_run_begins_with_the_weights_of_another(tmp_path, source, small):
    file, _ = export(source, tmp_path / "weights.safetensors")
    found = {}
    for name, start in (("run", str(source)), ("file", str(file))):
        request = TrainRequest(
            None, (*small, "run.seed=5"), {"run.epochs": 1, "run.init_from": start}, tmp_path / name
        )
        started, *_, finished = train(request)
        assert not started.notices
        assert finished.summary["init_from"]["step"] in (18, "18")
        assert CheckpointStore(tmp_path / name / "checkpoints").steps() == [0, 10]
        at_start = weights_of(tmp_path / name, 0)
        assert all(np.array_equal(at_start[key], value) for key, value in weights_of(source).items())
        found[name] = (tmp_path / name / "metrics.jsonl").read_bytes()
    assert found["run"] == found["file"]
    assert evaluate(tmp_path / "run", step=0)[0]["top1"] == evaluate(source)[0]["top1"]


def test_validation_examples_that_the_weights_have_seen_are_told(tmp_path, source, small):
    file, _ = export(source, tmp_path / "weights.npz")
    for name, start in (("run", str(source)), ("file", str(file))):
        for seed, known in ((0, True), (1, False)):
            overrides = (*small, "data.validation_examples=100", f"run.seed={seed}")
            flags = {"run.epochs": 1, "run.init_from": start}
            started = next(iter(train(TrainRequest(None, overrides, flags, tmp_path / f"{name}{seed}"))))
            seen = [notice for notice in started.notices if "of the 100 validation examples" in notice]
            assert len(seen) == (0 if known else 1)


def test_a_run_computes_in_its_own_numbers(tmp_path, source, small):
    """And not in those of the run whose weights it begins with."""
    overrides = (*small, "run.matmul_precision=tensorfloat32")
    next(iter(train(TrainRequest(None, overrides, {"run.init_from": str(source)}, tmp_path / "new"))))
    assert jax.config.jax_default_matmul_precision == "tensorfloat32"


def test_what_does_not_fit_begins_fresh_and_is_listed(tmp_path, source, small):
    overrides = (*small, "network.layers.l2.units=8")
    request = TrainRequest(
        None, overrides, {"run.epochs": 1, "run.init_from": f"{source}:9"}, tmp_path / "new"
    )
    started, *_, finished = train(request)
    (notice,) = started.notices
    assert "l1-l2.kernel (has shape" in notice
    taken = finished.summary["init_from"]["taken"]
    assert "in-l1.kernel" in taken
    assert not any("l2" in name and "kernel" in name for name in taken)


def test_feedback_that_begins_fresh_has_the_initial_angle_to_what_was_taken(tmp_path, small):
    """A tied source has no feedback kernels; at 0° those of its successor start as its forward ones."""
    tied = TrainRequest(None, (*small, "network.tied=true"), {"run.epochs": 1}, tmp_path / "tied")
    list(train(tied))
    flags = {"run.epochs": 1, "run.init_from": str(tmp_path / "tied")}
    started = next(iter(train(TrainRequest(None, (*small, "run.seed=1"), flags, tmp_path / "new"))))
    assert "mixed with the forward ones as network.initial_angle_deg = 0 says" in started.notices[-1]
    at_start = weights_of(tmp_path / "new", 0)
    assert np.allclose(at_start["l2-l1.kernel"], at_start["l1-l2.kernel"].T, rtol=1e-6)


FRESH = {"a-b": {"kernel": np.zeros((2, 3), np.float32), "bias": np.zeros(3, np.float32)}}


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({"x-y.kernel": np.zeros((2, 3))}, r"no weights match.*\n  a-b.kernel is missing"),
        ({"a-b.kernel": np.zeros((3, 3))}, r"has shape \[3, 3\], not \[2, 3\]"),
        ({"a-b.kernel": np.zeros((2, 3), int)}, "is int64, not floating-point"),
        ({"a-b.kernel": np.full((2, 3), np.nan)}, "contains NaN, or values that are infinite"),
        ({"a-b.kernel": np.full((2, 3), 1e39)}, "infinite in float32"),
    ],
)
def test_weights_of_another_network_are_refused_in_words(tmp_path, arrays, what):
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(CheckpointError, match=what):
        initial_params(str(tmp_path / "other.npz"), FRESH)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 torn", b"\x93NUMPY", b"\x10\0\0\0\0\0\0\0{torn"])
def test_damaged_files_of_weights_are_refused_in_words(tmp_path, suffix, content):
    file = tmp_path / f"weights{suffix}"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CheckpointError, match="weights"):
        read_weights(file)


def test_a_step_that_is_none_and_another_format_are_refused(tmp_path, source):
    with pytest.raises(ConfigError, match="last is not a step"):
        initial_params(f"{source}:last", FRESH)
    with pytest.raises(CheckpointError, match="no step 7"):
        initial_params(f"{source}:7", FRESH)
    file, _ = export(source, tmp_path / "weights.npz")
    with pytest.raises(ConfigError, match="a file holds the weights of one step"):
        initial_params(f"{file}:7", FRESH)
    with pytest.raises(ConfigError, match=r"\.safetensors or \.npz"):
        export(source, tmp_path / "weights.h5")


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_exported_weights_that_changed_are_refused(tmp_path, source, suffix):
    """A safetensors file has no checksum of its own."""
    file, _ = export(source, tmp_path / f"weights{suffix}")
    content = bytearray(file.read_bytes())
    content[-5000 if suffix == ".npz" else -1] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="contains no readable weights"):
        read_weights(file)


def test_a_home_that_is_not_there_is_refused_in_words(small, tmp_path):
    request = TrainRequest(None, (*small, "run.init_from='~nosuchuser/run'"), {}, tmp_path / "new")
    with pytest.raises(ConfigError, match="~nosuchuser"):
        list(train(request))
