"""Runs trained in one program are the runs alone, to rounding, and resume like them."""

import json

import jax
import numpy as np
import pytest

from hepcli.checkpoints import CheckpointStore
from hepcli.experiments.group import train_together
from hepcli.experiments.records import BatchDone, Finished, Interrupted
from hepcli.experiments.train import TrainRequest, train

pytestmark = pytest.mark.usefixtures("small_data")
EPOCHS = 2  # of 10 steps each
SEEDS = [{"run.seed": seed} for seed in range(2)]
# The order in which a batched product adds up differs, and 20 steps of learning amplify it.
TOLERANCE = {"rtol": 2e-3, "atol": 2e-4}


def requests(folder, settings, overrides, *, resume=False):
    flags = [{"run.epochs": EPOCHS} | own for own in settings]
    if resume:
        return [TrainRequest(out=folder / str(place), resume=True) for place in range(len(settings))]
    return [TrainRequest(None, overrides, own, folder / str(place)) for place, own in enumerate(flags)]


def together(folder, settings, overrides, *, stop_after=None, resume=False):
    """Last record of each run."""
    last, steps = {}, 0
    stop = lambda: stop_after is not None and steps >= stop_after  # noqa: E731
    for number, record in train_together(requests(folder, settings, overrides, resume=resume), stop):
        steps += isinstance(record, BatchDone)
        last[number] = record
    return [last[place] for place in range(len(settings))]


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def numbers(line):
    """All numbers of a line of metrics.jsonl by their path; None as NaN."""
    flat = {}
    for key, value in line.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{inner}": number for inner, number in numbers(value).items()}
        else:
            flat[key] = np.nan if value is None else value
    return flat


def assert_same_run(joint, alone):
    assert (joint / "config.toml").read_bytes() == (alone / "config.toml").read_bytes()
    for ours, theirs in zip(metrics(joint), metrics(alone), strict=True):
        ours, theirs = numbers(ours), numbers(theirs)
        assert ours.keys() == theirs.keys()
        for key in ours:
            # A share of 1,000 examples may move by a few that stand on the edge.
            loose = {"atol": 5e-3} if key.endswith(("top1", "top5", "settled")) else {}
            np.testing.assert_allclose(ours[key], theirs[key], err_msg=key, **(TOLERANCE | loose))


CASES = {
    "seeds and radii": (
        [{"run.seed": 0}, {"run.seed": 2**32 - 1, "gradient.beta_radius": 0.05}],
        ("gradient.num_points=3",),
    ),
    "radii, online": (
        [{"gradient.beta_radius": 0.2}, {"gradient.beta_radius": 0.5}],
        ("gradient.method=online_hep", "gradient.num_points=4", "gradient.online_cycles=2"),
    ),
    "weights, rates and angles": (
        [
            {"homeostasis.weight": 0.1, "optimizer.learning_rate": 1e-3, "network.initial_angle_deg": 90.0},
            {"homeostasis.weight": 1.0, "optimizer.learning_rate": 2e-3, "network.initial_angle_deg": 45.0},
        ],
        (
            *("gradient.method=hep_exact", "optimizer.name=adamw"),
            *("optimizer.schedule=cosine", "relaxation.tolerance=1e-3"),
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_together_is_alone(tmp_path, small, name):
    settings, overrides = CASES[name]
    overrides = (*small, *overrides)
    assert all(isinstance(r, Finished) for r in together(tmp_path / "joint", settings, overrides))
    for place, request in enumerate(requests(tmp_path / "alone", settings, overrides)):
        assert isinstance(list(train(request))[-1], Finished)
        assert_same_run(tmp_path / "joint" / str(place), tmp_path / "alone" / str(place))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tmp_path_factory.mktemp("together")


@pytest.fixture
def whole_runs(whole, small):
    """Two seeds trained together without an interruption, once for the module."""
    if not any(whole.iterdir()):
        together(whole, SEEDS, small)
    return whole


def test_together_resumes_exactly(tmp_path, small, whole_runs):
    overrides = (*small, "checkpoints.every_steps=4")
    stopped = together(tmp_path, SEEDS, overrides, stop_after=7)
    assert all(isinstance(record, Interrupted) for record in stopped)
    resumed = together(tmp_path, SEEDS, overrides, stop_after=9, resume=True)
    assert all(isinstance(record, Interrupted) for record in resumed)
    assert all(isinstance(r, Finished) for r in together(tmp_path, SEEDS, (), resume=True))
    for place in "01":
        assert metrics(tmp_path / place) == metrics(whole_runs / place)


def test_a_run_that_was_saved_ahead_goes_back_to_the_others(tmp_path, small, whole_runs):
    """Killed between two saves; one run is an epoch ahead, and still has the step before."""
    together(tmp_path, SEEDS, small, stop_after=10)
    ahead = TrainRequest(out=tmp_path / "1", resume=True)
    assert isinstance(list(train(ahead))[-1], Finished)
    (tmp_path / "1" / "summary.json").unlink()
    assert all(isinstance(r, Finished) for r in together(tmp_path, SEEDS, (), resume=True))
    for place in "01":
        assert metrics(tmp_path / place) == metrics(whole_runs / place)


def test_runs_that_do_not_fit_the_memory_train_one_after_the_other(tmp_path, small, monkeypatch):
    monkeypatch.setattr("hepcli.experiments.task.Task.runs_that_fit", lambda task, most: 2)
    ends = together(tmp_path, [{"run.seed": seed} for seed in range(3)], small)
    assert [record.summary["trained_together"] for record in ends] == [2, 2, 1]


def test_measures_that_fail_cost_no_run_its_epoch(tmp_path, small, monkeypatch):
    def fail(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr("hepcli.experiments.split_meter.SplitMeter.measures", fail)
    folders = [tmp_path / f"s{seed}" for seed in range(2)]
    requests = [
        TrainRequest(None, (*small, "run.measure_examples=2"), {"run.epochs": 1, "run.seed": seed}, folder)
        for seed, folder in enumerate(folders)
    ]
    with pytest.raises(jax.errors.JaxRuntimeError):
        list(train_together(requests))
    assert [CheckpointStore(folder / "checkpoints").steps()[-1] for folder in folders] == [10, 10]
