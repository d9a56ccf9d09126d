"""Runs trained in one program are the runs alone, to rounding, and resume like them."""

import json

import numpy as np
import pytest

from hepcli.checkpoints import CheckpointStore
from hepcli.errors import DivergenceError
from hepcli.experiments.records import BatchDone, Finished, Interrupted
from hepcli.experiments.together import train_together
from hepcli.experiments.train import TrainRequest, train

pytestmark = pytest.mark.usefixtures("small_data", "quick_compile")
EPOCHS = 2  # of 10 steps each
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
            loose = {"atol": 5e-3} if key.endswith(("top1", "top5", "converged")) else {}
            np.testing.assert_allclose(ours[key], theirs[key], err_msg=key, **(TOLERANCE | loose))


CASES = {
    "seeds": ([{"run.seed": 0}, {"run.seed": 3}, {"run.seed": 2**32 - 1}], ()),
    "radii": (
        [{"gradient.beta_radius": 0.05}, {"gradient.beta_radius": 0.5}],
        ("gradient.num_points=3",),
    ),
    "online": (
        [{"gradient.beta_radius": 0.2}, {"gradient.beta_radius": 0.5, "run.seed": 1}],
        ("gradient.method=online_hep", "gradient.num_points=4", "gradient.online_cycles=2"),
    ),
    "weights and rates": (
        [
            {"homeostasis.weight": 0.1, "optimizer.learning_rate": 1e-3, "network.initial_angle_deg": 90.0},
            {"homeostasis.weight": 1.0, "optimizer.learning_rate": 2e-3, "network.initial_angle_deg": 45.0},
        ],
        ("gradient.method=hep_exact", "optimizer.name=adamw", "relaxation.tolerance=1e-3"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_together_is_alone(tmp_path, small, name):
    settings, overrides = CASES[name]
    overrides = (*small, *overrides, "optimizer.schedule=cosine")
    assert all(isinstance(r, Finished) for r in together(tmp_path / "joint", settings, overrides))
    for place, request in enumerate(requests(tmp_path / "alone", settings, overrides)):
        assert isinstance(list(train(request))[-1], Finished)
        assert_same_run(tmp_path / "joint" / str(place), tmp_path / "alone" / str(place))


def test_together_resumes_exactly(tmp_path, small):
    settings = [{"run.seed": seed} for seed in range(3)]
    overrides = (*small, "checkpoints.every_steps=4")
    together(tmp_path / "whole", settings, overrides)
    stopped = together(tmp_path / "stopped", settings, overrides, stop_after=7)
    assert all(isinstance(record, Interrupted) for record in stopped)
    resumed = together(tmp_path / "stopped", settings, overrides, stop_after=9, resume=True)
    assert all(isinstance(record, Interrupted) for record in resumed)
    assert all(isinstance(r, Finished) for r in together(tmp_path / "stopped", settings, (), resume=True))
    for place in "012":
        assert metrics(tmp_path / "stopped" / place) == metrics(tmp_path / "whole" / place)


def test_a_run_that_was_saved_ahead_goes_back_to_the_others(tmp_path, small):
    """Killed between two saves; one run is an epoch ahead, and still has the step before."""
    settings = [{"run.seed": seed} for seed in range(2)]
    together(tmp_path / "whole", settings, small)
    together(tmp_path / "run", settings, small, stop_after=10)
    ahead = TrainRequest(out=tmp_path / "run" / "1", resume=True)
    assert isinstance(list(train(ahead))[-1], Finished)
    (tmp_path / "run" / "1" / "summary.json").unlink()
    assert all(isinstance(r, Finished) for r in together(tmp_path / "run", settings, (), resume=True))
    for place in "01":
        assert metrics(tmp_path / "run" / place) == metrics(tmp_path / "whole" / place)


def test_one_run_diverges_and_the_others_go_on(tmp_path, small):
    settings = [{"optimizer.learning_rate": 1e38}, {"optimizer.learning_rate": 0.01}]
    diverged, finished = together(tmp_path, settings, small)
    assert isinstance(diverged, DivergenceError)
    assert isinstance(finished, Finished)
    assert CheckpointStore(tmp_path / "0" / "checkpoints").steps() == [0]
    assert np.isfinite(metrics(tmp_path / "1")[-1]["train"]["loss"])
