"""Workers: failures, stops, and what is left of a killed run."""

import json
import os

import pytest

from hepcli.config import check_sweep, dump_config, load_config
from hepcli.errors import ConfigError, OutputError, SweepError
from hepcli.experiments.sweeps.claims import Journal
from hepcli.experiments.sweeps.collect import collect
from hepcli.experiments.sweeps.folder import SweepFolder
from hepcli.experiments.sweeps.joining import join
from hepcli.experiments.sweeps.points import expand
from hepcli.experiments.sweeps.report import report
from hepcli.experiments.sweeps.settling import Job, Settling
from hepcli.experiments.sweeps.worker import WorkRequest, _claim, work

pytestmark = pytest.mark.usefixtures("small_data")


def make_sweep(path, small, axis, **sweep):
    settings = dict(override.split("=") for override in small if "schedule" not in override)
    fixed = {key: int(value) for key, value in settings.items()}
    fixed |= {"run.epochs": 2, "optimizer.schedule": "constant"}
    tables = {"sweep": {"preset": "quickstart", "set": fixed} | sweep, "axis": [axis]}
    definition = check_sweep(tables, "test")
    folder, points = SweepFolder(path), expand(definition)
    join(folder, definition, points)
    return folder, points


def states(folder, point):
    return [entry.state for entry in folder.journal(point).entries()]


def test_a_point_that_fails_is_tried_twice_and_the_rest_goes_on(tmp_path, small):
    axis = {"name": "rate", "key": "optimizer.learning_rate", "values": [1e38, 0.01]}
    folder, (bad, good) = make_sweep(tmp_path, (*small, "relaxation.nudged_steps=1"), axis)
    lines = list(work(WorkRequest(tmp_path, together=True), lambda: False))
    assert states(folder, bad) == ["claimed", "failed", "claimed", "failed"]
    assert states(folder, good) == ["claimed", "done"]
    assert folder.journal(bad).state() == "failed"
    assert folder.journal(bad).failures()[-1]["what"].startswith("The loss of step")
    summary = json.loads((folder.run(good).path / "summary.json").read_text())
    assert summary["epochs"] == 2
    (notice,) = summary["notices"]  # what the run said is in the log, and in reports
    assert "the error signal needs 3 from out to l1" in notice
    assert f"{good.folder}: {notice}" in lines
    assert f"{good.folder}: {notice}" in report(tmp_path).notices


def test_claims_are_released_where_another_fails(tmp_path, small, monkeypatch):
    """Left open they would count as deaths of the worker."""
    axis = {"name": "rate", "key": "optimizer.learning_rate", "values": [0.01, 0.02]}
    folder, points = make_sweep(tmp_path, small, axis)
    claim = Journal.claim

    def full_disk(journal, step):
        if journal.folder == folder.journal(points[1]).folder:
            raise OutputError("no space is left", "Make some.")
        return claim(journal, step)

    monkeypatch.setattr(Journal, "claim", full_disk)
    with pytest.raises(OutputError, match="no space"):
        _claim(folder, points, together=True)
    assert states(folder, points[0]) == ["claimed", "released"]


def test_a_run_that_is_over_early_does_not_stop_those_beside_it(tmp_path, small):
    axis = {"name": "rate", "key": "optimizer.learning_rate", "values": [1e-12, 0.05, 0.1]}
    folder, points = make_sweep(tmp_path, small, axis)
    definition = folder.definition()
    early = {"run.patience": 1, "data.validation_examples": 100, "run.epochs": 5}
    tables = definition.model_dump(mode="json", exclude_none=True)
    tables["sweep"]["set"] |= early
    folder = SweepFolder(tmp_path / "early")
    definition = check_sweep(tables, "test")
    points = expand(definition)
    join(folder, definition, points)
    list(work(WorkRequest(folder.path, together=True), lambda: False))
    assert [states(folder, point) for point in points] == [["claimed", "done"]] * 3
    epochs = [json.loads((folder.run(one).path / "summary.json").read_text())["epochs"] for one in points]
    assert epochs[0] == 2 < max(epochs)


@pytest.mark.parametrize("together", [False, True])
def test_a_stopped_worker_releases_and_the_next_one_goes_on(tmp_path, small, together):
    axis = {"name": "angle", "key": "network.initial_angle_deg", "values": [0.0, 90.0]}
    folder, points = make_sweep(tmp_path, small, axis)
    asked = iter([False] * 14 + [True] * 1000)
    list(work(WorkRequest(tmp_path, together=together), lambda: next(asked)))
    assert [folder.journal(point).state() for point in points].count("waiting") >= 1
    assert all("claimed" not in states(folder, point)[-1:] for point in points)
    list(work(WorkRequest(tmp_path, together=together), lambda: False))
    for point in points:
        assert states(folder, point)[-1] == "done"
        lines = (folder.run(point).path / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in lines] == [1, 2]


def test_what_was_killed_before_its_first_checkpoint_starts_afresh(tmp_path, small):
    axis = {"name": "angle", "key": "network.initial_angle_deg", "values": [0.0]}
    folder, (point,) = make_sweep(tmp_path, small, axis)
    run = folder.run(point)
    (run.checkpoints / ".saving-0").mkdir(parents=True)
    (run.path / "config.toml").write_text("# Every value of th")
    list(work(WorkRequest(tmp_path), lambda: False))
    assert states(folder, point) == ["claimed", "done"]


def test_a_run_that_was_finished_but_not_marked_is_not_trained_again(tmp_path, small):
    axis = {"name": "angle", "key": "network.initial_angle_deg", "values": [0.0]}
    folder, (point,) = make_sweep(tmp_path, small, axis)
    run = folder.run(point).path
    run.mkdir(parents=True)
    (run / "summary.json").write_text(json.dumps({"config_hash": point.hash}))
    list(work(WorkRequest(tmp_path), lambda: False))
    assert states(folder, point) == ["claimed", "done"]
    assert not (run / "checkpoints").exists()


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_of_another_configuration_is_no_result(tmp_path, small, finished):
    axis = {"name": "angle", "key": "network.initial_angle_deg", "values": [0.0]}
    folder, (point,) = make_sweep(tmp_path, small, axis)
    run = folder.run(point)
    run.checkpoints.joinpath("10").mkdir(parents=True)
    (run.path / "config.toml").write_text(dump_config(load_config("quickstart")))
    if finished:
        (run.path / "summary.json").write_text('{"config_hash": "0123456789ab"}')
    before = sorted(run.path.rglob("*"))
    list(work(WorkRequest(tmp_path), lambda: False))
    assert states(folder, point)[-1] == "failed"
    assert "belongs to another run" in folder.journal(point).error()
    assert sorted(run.path.rglob("*")) == before
    assert not report(tmp_path).record["cells"][0]["values"]


def test_claims_are_settled_though_one_cannot_be(tmp_path, small, monkeypatch):
    """The heart of a worker stops, and what ended it is what is told."""
    axis = {"name": "angle", "key": "network.initial_angle_deg", "values": [0.0, 90.0]}
    folder, points = make_sweep(tmp_path, small, axis)
    jobs = [Job(point, folder.journal(point).claim()) for point in points]

    def full(*arguments, **record):
        raise OutputError("The disk is full.", "Free disk space.")

    monkeypatch.setattr(jobs[0].claim, "settle", full)
    with pytest.raises(ZeroDivisionError) as caught, Settling(jobs) as settling:
        raise ZeroDivisionError
    assert "disk is full" in caught.value.__notes__[0]
    assert states(folder, points[1])[-1] == "failed"
    assert not settling._heart._thread.is_alive()


def test_a_preset_that_changes_later_fails_its_own_points_alone(tmp_path, small):
    """With --together points are resolved while others are claimed already."""
    presets = [tmp_path / "a.toml", tmp_path / "b.toml"]
    for rate, preset in enumerate(presets, 1):
        preset.write_text(
            dump_config(load_config("quickstart", [*small, f"optimizer.learning_rate=0.{rate}"]))
        )
    points = [{"label": file.stem, "preset": str(file)} for file in presets]
    axis = {"name": "preset", "points": points}
    tables = {"sweep": {"preset": "quickstart", "set": {"run.epochs": 1}}, "axis": [axis]}
    definition = check_sweep(tables, "test")
    folder, (good, bad) = SweepFolder(tmp_path / "sweep"), expand(definition)
    join(folder, definition, [good, bad])
    presets[1].write_text("[run]\nepochs = 'many'\n")
    list(work(WorkRequest(folder.path, together=True), lambda: False))
    assert states(folder, good) == ["claimed", "done"]
    assert states(folder, bad) == ["claimed", "failed", "claimed", "failed"]
    assert "settings are not allowed" in folder.journal(bad).failures()[-1]["what"]


def test_a_sweep_moves_with_the_project_that_holds_its_preset(tmp_path, small):
    def joined(project):
        preset = str(project / "mine.toml")
        axis = {"name": "rate", "key": "optimizer.learning_rate", "values": [0.01, 0.02]}
        tables = {"sweep": {"preset": preset, "set": {"run.epochs": 1}}, "axis": [axis]}
        definition = check_sweep(tables, "test")
        folder, points = SweepFolder(project / "sweep"), expand(definition)
        join(folder, definition, points)
        return folder, points

    (tmp_path / "here").mkdir()
    (tmp_path / "here/mine.toml").write_text(dump_config(load_config("quickstart", small)))
    joined(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    folder, points = joined(tmp_path / "there")
    assert {point.preset for point in folder.points()} == {str(tmp_path / "there/mine.toml")}
    list(work(WorkRequest(folder.path), lambda: False))
    assert [folder.state(point) for point in points] == ["done", "done"]
    changed = dump_config(load_config("quickstart", [*small, "run.seed=3", "optimizer.momentum=0.5"]))
    (tmp_path / "there/mine.toml").write_text(changed)
    with pytest.raises(ConfigError, match="has changed"):
        joined(tmp_path / "there")


def test_a_sweep_that_is_moved_away_is_not_trained_anew_where_it_was(tmp_path, small):
    axis = {"name": "rate", "key": "optimizer.learning_rate", "values": [0.01, 0.02]}
    make_sweep(tmp_path / "here", small, axis)
    worker = work(WorkRequest(tmp_path / "here"), lambda: False)
    assert next(worker).endswith("started")
    (tmp_path / "here").rename(tmp_path / "there")
    with pytest.raises((OutputError, SweepError)):
        list(worker)
    assert not (tmp_path / "here").exists()
    for entry in (tmp_path / "there").rglob("claims/**/*.json"):
        os.utime(entry, (0, 0))  # as a minute later, when the claim has expired
    list(work(WorkRequest(tmp_path / "there"), lambda: False))
    assert [point.state for point in collect(tmp_path / "there").outcomes] == ["done", "done"]


def test_a_run_that_another_trains_keeps_no_worker_from_the_others(tmp_path, small):
    axis = {"name": "rate", "key": "optimizer.learning_rate", "values": [0.01, 0.02]}
    folder, (busy, free) = make_sweep(tmp_path, small, axis)
    with folder.run(busy).claimed():
        lines = list(work(WorkRequest(tmp_path, wait=False), lambda: False))
    assert [line.rpartition(": ")[2] for line in lines] == [
        "started",
        "held by another process",
        "started",
        "done",
    ]
    assert (states(folder, busy), folder.state(free)) == (["claimed", "released"], "done")


def test_examples_that_changed_since_are_not_trained_with(tmp_path, small, monkeypatch):
    axis = {"name": "rate", "key": "optimizer.learning_rate", "values": [0.01, 0.02]}
    folder, (first, second) = make_sweep(tmp_path, small, axis)
    list(work(WorkRequest(tmp_path, shard="0/2"), lambda: False))
    monkeypatch.setattr("hepcli.experiments.sweeps.examples.fingerprint", lambda spec: "others")
    list(work(WorkRequest(tmp_path), lambda: False))
    assert (folder.state(first), folder.state(second)) == ("done", "failed")
    assert "was trained on other examples" in folder.journal(second).error()


def test_a_shard_takes_its_points_alone(tmp_path, small):
    axis = {"name": "angle", "key": "network.initial_angle_deg", "values": [0.0, 30.0, 60.0]}
    folder, points = make_sweep(tmp_path, small, axis)
    for point in points:
        run = folder.run(point).path
        run.mkdir(parents=True)
        (run / "summary.json").write_text(json.dumps({"config_hash": point.hash}))
    list(work(WorkRequest(tmp_path, shard="1/2"), lambda: False))
    assert [states(folder, point) for point in points] == [[], ["claimed", "done"], []]
