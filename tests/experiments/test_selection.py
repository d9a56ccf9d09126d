"""Honest selection: what is held out, what is chosen by it, and that test decides nothing."""

import json

import numpy as np
import pytest

from hepcli.config import ERRORS, flatten, load_config
from hepcli.config.values import value_faults, value_names
from hepcli.data import held_out
from hepcli.errors import ConfigError
from hepcli.experiments.evaluate import evaluate
from hepcli.experiments.group import train_together
from hepcli.experiments.records import Finished, RunStarted
from hepcli.experiments.selection import best_epoch, is_over, selection
from hepcli.experiments.train import TrainRequest, train

LABELS = np.repeat(np.arange(10), [50, 60, 70, 80, 90, 110, 120, 130, 140, 150])


def test_every_class_is_held_out_by_its_share():
    chosen = held_out(LABELS, 100, seed=3)
    assert np.array_equal(chosen, np.unique(chosen))
    assert np.bincount(LABELS[chosen]).tolist() == [5, 6, 7, 8, 9, 11, 12, 13, 14, 15]
    assert np.array_equal(chosen, held_out(LABELS, 100, seed=3))
    assert not np.array_equal(chosen, held_out(LABELS, 100, seed=4))
    assert held_out(LABELS, 0, seed=3).size == 0


def test_what_is_left_of_the_shares_goes_to_the_largest_remainders():
    labels = np.repeat([0, 1, 2], [500, 300, 197])  # of 101: 50.65, 30.39 and 19.96
    assert np.bincount(labels[held_out(labels, 101, seed=0)]).tolist() == [51, 30, 20]


@pytest.mark.parametrize(
    ("count", "what"),
    [
        (5, "missing from validation"),
        (999, "missing from training"),
        (1000, "there are only 1000 training examples"),
    ],
)
def test_a_class_that_would_be_missing_is_named(count, what):
    with pytest.raises(ConfigError, match=what):
        held_out(LABELS, count, seed=0)


def test_a_class_of_one_example_cannot_be_divided():
    with pytest.raises(ConfigError, match="class 1, of which there are 1") as error:
        held_out(np.repeat([0, 1], [1000, 1]), 10, seed=0)
    assert error.value.advice.startswith("Leave it at 0")


def test_the_count_that_is_advised_is_enough():
    labels = np.repeat([0, 1, 2], [3, 500, 497])
    with pytest.raises(ConfigError, match=r"Choose (\d+) or more") as error:
        held_out(labels, 10, seed=0)
    least = int(error.value.advice.split()[1])
    assert 0 in labels[held_out(labels, least, seed=0)]
    with pytest.raises(ConfigError):
        held_out(labels, least - 1, seed=0)


def line(epoch, validation, test):
    return {"epoch": epoch, "step": 10 * epoch, "validation": {"top1": validation}, "test": {"top1": test}}


def test_the_first_of_the_best_epochs_is_selected_whatever_test_says():
    history = [line(1, 0.5, 0.9), line(2, 0.7, 0.1), line(3, 0.7, 0.8), line(4, 0.6, 1.0)]
    assert best_epoch(history)["epoch"] == 2
    assert selection(history)["by"] == "validation_top1"
    assert [is_over(history, patience) for patience in (0, 1, 2, 3)] == [False, True, True, False]
    unrated = [{key: value for key, value in one.items() if key != "validation"} for one in history]
    assert selection(unrated) | {"test": None} == {
        "by": "latest", "epoch": 4, "step": 40, "validation": None, "test": None,
    }  # fmt: skip


def test_patience_needs_examples_to_go_by():
    with pytest.raises(ConfigError, match=r"run\.patience = 2: needs data\.validation_examples"):
        load_config("quickstart", ["run.patience=2"])


@pytest.mark.usefixtures("small_data")
def test_a_run_that_no_longer_improves_is_over_and_stays_so(tmp_path, small):
    # A step this small changes nothing that is right or wrong: the first epoch stays the best.
    overrides = [*small, "data.validation_examples=100", "run.patience=2", "optimizer.learning_rate=1e-12"]
    requests = [
        TrainRequest(None, overrides, {"run.epochs": 9, "run.seed": seed}, tmp_path / f"s{seed}")
        for seed in (0, 1)
    ]
    ends = {r.number: r.record for r in train_together(requests) if isinstance(r.record, Finished)}
    summary = ends[1].summary
    assert summary["epochs"] == 3
    assert (summary["selection"]["by"], summary["selection"]["epoch"]) == ("validation_top1", 1)
    assert summary["train"]["examples"] == 900
    assert summary["selection"]["validation"]["examples"] == 100
    alone = list(train(requests[1]._replace(out=tmp_path / "alone")))[-1].summary
    assert alone["selection"]["epoch"] == 1
    again = list(train(TrainRequest(out=tmp_path / "s0", resume=True)))
    assert [type(record) for record in again] == [RunStarted, Finished]
    with pytest.raises(
        ConfigError, match=r"run\.patience = 1: .* would have ended after epoch 2, but has already reached"
    ):
        list(train(TrainRequest(None, ["run.patience=1"], out=tmp_path / "s0", resume=True)))
    record, _ = evaluate(tmp_path / "s0", step="best")
    assert record["step"] == summary["selection"]["step"] == 9
    manifest = json.loads((tmp_path / "s0" / "checkpoints" / "9" / "manifest.json").read_text())
    first = json.loads((tmp_path / "s0" / "metrics.jsonl").read_text().splitlines()[0])
    assert manifest["metric"] == first["validation"]["top1"]
    validated, _ = evaluate(tmp_path / "s0", "validation", "best")
    own = json.loads((tmp_path / "s0" / "summary.json").read_text())["selection"]["validation"]
    assert (validated["examples"], validated["top1"]) == (100, pytest.approx(own["top1"]))
    assert evaluate(tmp_path / "s0", "train")[0]["examples"] == 900
    _check_that_names_are_recorded(tmp_path / "s0")


def _check_that_names_are_recorded(run):
    """What a sweep may tabulate, plot or search for is what a run records: no number less, no name more."""
    summary = json.loads((run / "summary.json").read_text())
    line = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    for record, over_epochs in ((summary, False), (line, True)):
        recorded = flatten(record)
        numbers = [key for key, value in recorded.items() if isinstance(value, int | float)]
        assert value_faults("table.value", numbers, over_epochs=over_epochs) == []
        assert recorded.keys() >= set(value_names(over_epochs=over_epochs)) - ERRORS.keys()
