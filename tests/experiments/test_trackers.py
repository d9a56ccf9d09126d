"""Trackers: what TensorBoard reads back is metrics.jsonl, once each, whatever interrupted the run."""

import importlib.util
import json
import sys

import pytest

from hepcli.config import config_hash, load_config
from hepcli.errors import ConfigError, OutputError
from hepcli.experiments.records import Finished, Interrupted
from hepcli.experiments.run_folder import RunFolder
from hepcli.experiments.trackers import Trackers, check_installed, scalars
from hepcli.experiments.train import BatchDone, TrainRequest, train
from hepcli.settings import TRACKERS

TRACKED = 'run.trackers=["tensorboard"]'
LINE = {"epoch": 1, "step": 10, "train": {"loss": 0.5, "nudged": None}, "kernel_std": {"in-l1": 0.1}}


def read_back(folder):
    """Tag -> [(step, value)], by TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    found = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags["scalars"]}
    return found, tags


def check_series(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found, tags = read_back(folder)
    assert found.keys() == scalars(lines[0]).keys()
    for name, series in found.items():
        assert [step for step, _ in series] == [line["step"] for line in lines], name
        assert [value for _, value in series] == pytest.approx([scalars(line)[name] for line in lines])
    return tags


@pytest.mark.draws
@pytest.mark.usefixtures("small_data")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_reads_back_the_lines_of_a_run_that_was_stopped_and_prolonged(tmp_path, small):
    records = []
    done = lambda: sum(isinstance(record, BatchDone) for record in records) >= 13  # noqa: E731
    for record in train(TrainRequest(None, (*small, TRACKED), {"run.epochs": 2}, tmp_path), done):
        records.append(record)
    assert isinstance(records[-1], Interrupted)
    # As a process that was killed after it told of an epoch and before it saved it.
    left = Trackers(load_config("quickstart", [TRACKED]).config, RunFolder(tmp_path), [])
    left.log(LINE | {"step": 20, "train": {"loss": 99.0}})
    left.close(finished=False)
    assert isinstance(list(train(TrainRequest(out=tmp_path, resume=True)))[-1], Finished)
    check_series(tmp_path)
    list(train(TrainRequest(flags={"run.epochs": 3}, out=tmp_path, resume=True)))
    tags = check_series(tmp_path)
    assert tags["images"] == ["curves"]
    assert "config/text_summary" in tags["tensors"]


def test_trackers_belong_to_no_hash():
    plain, tracked = load_config("quickstart"), load_config("quickstart", [TRACKED])
    assert config_hash(plain.config) == config_hash(tracked.config)


def test_what_is_null_is_no_scalar():
    assert scalars(LINE) == {"epoch": 1, "step": 10, "train/loss": 0.5, "kernel_std/in-l1": 0.1}


def test_a_tracker_that_is_not_installed_is_named_before_anything_is_begun(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="tensorboardX is not installed") as error:
        check_installed(load_config("quickstart", [TRACKED]).config)
    assert "hepcli[tensorboard]" in error.value.advice
    with pytest.raises(ConfigError, match=r"run\.trackers"):
        load_config("quickstart", ['run.trackers=["mlflow"]'])


def test_a_tracker_that_fails_midway_is_given_up_and_said(tmp_path, monkeypatch):
    class Failing:
        def log(self, line):
            raise RuntimeError("no network")

    monkeypatch.setitem(TRACKERS, "tensorboard", lambda *_: Failing())
    own = Trackers(load_config("quickstart", [TRACKED]).config, RunFolder(tmp_path), [])
    own.log(LINE)
    own.log(LINE)
    (notice,) = own.news()
    assert "tensorboard has stopped logging this run" in notice
    assert "no network" in notice


class Wandb:
    """Stands for the package, which is no requirement of the tests."""

    class errors:
        class Error(Exception):
            pass

    class Settings:
        def __init__(self, **_):
            pass


def test_wandb_that_cannot_be_reached_is_said_and_offline_is_advised(tmp_path, monkeypatch):
    class Unreachable(Wandb):
        @classmethod
        def init(cls, *, id, mode, **_):
            assert (len(id), mode) == (8, "online")
            raise cls.errors.Error("Timed out.")

    monkeypatch.setitem(sys.modules, "wandb", Unreachable)
    monkeypatch.setenv("WANDB_MODE", "online")
    config = load_config("quickstart", ['run.trackers=["wandb"]']).config
    with pytest.raises(OutputError, match="Timed out") as error:
        Trackers(config, RunFolder(tmp_path), [])
    assert "WANDB_MODE=offline" in error.value.advice


def test_wandb_gets_what_it_lacks(tmp_path, monkeypatch):
    """After an attempt that failed all of it, after a kill between saving and logging the rest."""
    logged, there = [], []

    class Begun:
        step = 0

        def log(self, numbers, step):
            logged.append(step)

        def finish(self, exit_code):
            pass

    class Later(Wandb):
        @classmethod
        def init(cls, *, id, **_):
            if not there:
                there.append(None)
                raise cls.errors.Error("Timed out.")
            there.append(id)
            return Begun()

    monkeypatch.setitem(sys.modules, "wandb", Later)
    monkeypatch.setenv("WANDB_MODE", "online")
    config = load_config("quickstart", ['run.trackers=["wandb"]']).config
    history = [LINE | {"step": step} for step in (10, 20, 30)]
    with pytest.raises(OutputError):
        Trackers(config, RunFolder(tmp_path), history)
    Trackers(config, RunFolder(tmp_path), history[:2])
    assert logged == [10, 20]
    Begun.step = 21
    Trackers(config, RunFolder(tmp_path), history)
    assert logged == [10, 20, 30]
    assert there[1] == there[2]
