"""`--reuse`: finished runs of other sweeps become points of this one, whole or not at all."""

import itertools
import json
import shutil
from pathlib import Path

import pytest

from hepcli.config import load_sweep
from hepcli.errors import CheckpointError, ConfigError, DatasetError, OutputError
from hepcli.experiments.sweep import SweepInterrupted, prepare, sweep
from hepcli.experiments.sweeps.definition import SweepRequest
from hepcli.experiments.sweeps.folder import SweepFolder
from hepcli.experiments.sweeps.plan import plan
from hepcli.experiments.sweeps.points import expand
from hepcli.experiments.sweeps.report import report
from hepcli.experiments.sweeps.worker import WorkRequest, work

pytestmark = pytest.mark.usefixtures("small_data")


@pytest.fixture
def request_(small, tmp_path, monkeypatch):
    """What asks for a sweep of these angles in that folder."""
    monkeypatch.setattr("hepcli.experiments.sweep.load_split", lambda *_: None)

    def make(name, angles, **more):
        vary = [f"network.initial_angle_deg={','.join(map(str, angles))}"]
        return SweepRequest(
            preset="quickstart", vary=vary, overrides=small, epochs=1, out=tmp_path / name, **more
        )

    return make


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return tmp_path_factory.mktemp("sweeps")


@pytest.fixture
def first(trained, request_):
    """A finished sweep over 0° and 90°, trained once for the module."""
    path = trained / "first"
    if not path.exists():
        prepare(request_("first", [0.0, 90.0])._replace(out=path))
        list(work(WorkRequest(path), lambda: False))
    return path


def copies(folder: SweepFolder) -> list[bool]:
    """Of each point of the sweep, whether it was copied."""
    journals = [folder.journal(point).entries() for point in folder.points()]
    return [bool(own) and "copied_from" in own[-1].record for own in journals]


def contents(run: Path) -> dict[str, bytes]:
    """All of a run but its lock, and its summary, which says where it lies."""
    files = [file for file in run.rglob("*") if file.is_file() and file.name not in (".lock", "summary.json")]
    return {str(file.relative_to(run)): file.read_bytes() for file in files}


def test_what_is_finished_elsewhere_is_not_trained_again(first, request_, tmp_path):
    before = {run.name: contents(run) for run in (first / "runs").iterdir()}
    planned = prepare(request_("second", [0.0, 45.0, 90.0], reuse=[first]))
    assert planned.notes == (f"2 of 3 runs are finished in {first} and copied from there.",)
    folder = SweepFolder(planned.folder)
    assert copies(folder) == [True, False, True]
    list(work(WorkRequest(planned.folder), lambda: False))
    assert [folder.state(point) for point in planned.points] == ["done"] * 3
    report(planned.folder)
    assert json.loads((planned.folder / "table.json").read_text())["runs"]["done"] == 3
    for run in (first / "runs").iterdir():
        copy = planned.folder / "runs" / run.name
        assert contents(copy) == contents(run) == before[run.name]
        ours, theirs = (json.loads((one / "summary.json").read_text()) for one in (copy, run))
        assert ours == theirs | {"run": str(copy)}
    again = plan(request_("second", [0.0, 45.0, 90.0], reuse=[first]))  # the same command joins
    assert (again.notes, again.reused) == ((), {})


def test_an_interrupt_while_runs_are_copied_starts_no_worker(first, request_):
    asked = itertools.count()
    request = request_("second", [0.0, 45.0, 90.0], reuse=[first])
    started, ended = sweep(request, ["hep", "sweep", "again"], lambda: next(asked) > 0)
    assert ended == SweepInterrupted("hep sweep again")
    assert copies(SweepFolder(started.folder)) == [True, False, False]
    assert not (started.folder / "logs").exists()


@pytest.mark.parametrize("place", [".", "..", "runs", "runs/*-0.0-*"])
def test_a_place_is_a_sweep_a_folder_of_some_or_of_runs_or_a_run(first, request_, place):
    (own,) = first.glob(place) if "*" in place else [first / place]
    planned = plan(request_("second", [0.0, 10.0], reuse=[own]))
    assert [run.resolve() for run in planned.reused.values()] == list((first / "runs").glob("*-0.0-*"))
    assert not planned.folder.exists()


def test_only_whole_runs_of_the_configuration_are_reused(first, request_, tmp_path):
    copy = Path(shutil.copytree(first, tmp_path / "copy"))
    zero, right = sorted((copy / "runs").iterdir())
    config = zero / "config.toml"
    config.write_text(config.read_text().replace("learning_rate = 0.01 ", "learning_rate = 0.02 "))
    (right / "summary.json").write_text("{")
    assert "0.02" in config.read_text()
    with pytest.raises(ConfigError, match=r"contains no finished runs.*is damaged.*not reused"):
        plan(request_("second", [90.0], reuse=[right]))
    (right / "summary.json").unlink()
    with pytest.raises(ConfigError, match="contains no finished runs"):
        plan(request_("second", [0.0, 90.0], reuse=[right]))
    shutil.copy(next(first.glob("runs/*90.0*")) / "summary.json", right)
    planned = plan(request_("second", [0.0, 90.0], reuse=[copy]))
    assert list(planned.reused.values()) == [right]
    assert any("belongs to another run. The run is not reused." in note for note in planned.notes)
    other = plan(request_("second", [0.0])._replace(epochs=2, reuse=[first]))
    assert other.notes == (f"None of the remaining runs is finished in {first}.",)


SAYS = {
    "earlier_schedules": ([{"step": 10, "epochs": 1}], "so its learning-rate schedule differs"),
    "dataset_sha256": ("0" * 64, "was trained on other examples than the data set fashion_mnist_mini"),
}


@pytest.mark.parametrize("key", SAYS)
def test_runs_that_their_hash_does_not_tell_apart_are_left(first, request_, tmp_path, monkeypatch, key):
    copy = Path(shutil.copytree(first, tmp_path / "copy"))
    file = next(copy.glob("runs/*-90.0-*")) / "summary.json"
    summary = json.loads(file.read_text())
    value, words = SAYS[key]
    file.write_text(json.dumps(summary | {key: value}))
    monkeypatch.setattr("hepcli.experiments.sweeps.reuse.fingerprint", lambda spec: summary["dataset_sha256"])
    planned = plan(request_("second", [0.0, 90.0], reuse=[copy]))
    if key == "dataset_sha256":  # an official data set says nothing; one of the user's own does
        assert len(planned.reused) == 2
        monkeypatch.setattr("hepcli.experiments.sweeps.reuse.fingerprint", lambda spec: "1" * 64)
        with pytest.raises(ConfigError, match=words):
            plan(request_("second", [0.0, 90.0], reuse=[copy]))
        return
    assert len(planned.reused) == 1
    assert any(words in note for note in planned.notes)


def test_a_read_only_archive_is_copied_to_what_can_be_written(first, request_, tmp_path):
    copy = Path(shutil.copytree(first, tmp_path / "copy"))
    run = next(copy.glob("runs/*-0.0-*"))
    (run / "dangling").symlink_to("nowhere")
    folders = [run, *(path for path in run.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        planned = prepare(request_("second", [0.0], reuse=[copy]))
    finally:
        for folder in folders:
            folder.chmod(0o755)
    (own,) = (planned.folder / "runs").iterdir()
    assert all(path.stat().st_mode & 0o200 for path in [own, *own.rglob("*")])


def test_a_point_whose_run_is_gone_is_trained_again_when_asked(first, request_, tmp_path):
    copy = Path(shutil.copytree(first, tmp_path / "copy"))
    gone = next(copy.glob("runs/*-90.0-*"))
    shutil.rmtree(gone)
    same = request_("copy", [0.0, 90.0])
    *_, done = sweep(same, ["hep"])
    assert done.failed == 1
    assert "is missing, although the run was finished" in done.report.record["failed"][0]["error"]
    prepare(same._replace(resume=True))
    folder = SweepFolder(copy)
    assert [folder.state(point) for point in folder.points()] == ["done", "waiting"]
    list(work(WorkRequest(copy), lambda: False))
    assert contents(gone)["metrics.jsonl"] == contents(next(first.glob("runs/*-90.0-*")))["metrics.jsonl"]


def test_finished_points_of_other_examples_are_not_joined(first, request_, monkeypatch):
    monkeypatch.setattr("hepcli.experiments.sweeps.examples.fingerprint", lambda spec: "1" * 64)
    summary = next(first.glob("runs/*-0.0-*")) / "summary.json"
    text = summary.read_text()
    summary.write_text(json.dumps(json.loads(text) | {"dataset_sha256": "0" * 64}))
    try:
        with pytest.raises(DatasetError, match="was trained on other examples"):
            prepare(request_("first", [0.0, 90.0])._replace(out=first))
    finally:
        summary.write_text(text)


@pytest.mark.parametrize("name", ["table.csv", "figure.png", "table.json"])
def test_a_sweep_replaces_no_files_of_the_users_own(request_, tmp_path, name):
    (tmp_path / "second").mkdir()
    own = tmp_path / "second" / name
    own.write_text("mine")
    with pytest.raises(OutputError, match="would be replaced"):
        prepare(request_("second", [0.0]))
    assert own.read_text() == "mine"
    assert list(own.parent.iterdir()) == [own]


def test_a_sweep_does_not_move_in_with_a_run(first, request_):
    run = next(first.glob("runs/*-0.0-*"))
    before = contents(run)
    with pytest.raises(OutputError, match="contains a run"):
        prepare(request_("", [0.0])._replace(out=run))
    assert contents(run) == before


def test_weights_to_begin_with_are_found_from_any_folder(first, request_, tmp_path, monkeypatch):
    run = next(first.glob("runs/*-0.0-*"))
    monkeypatch.chdir(run.parent)
    asked = request_("second", [0.0])
    begun = plan(asked._replace(overrides=[*asked.overrides, f"run.init_from={run.name}:10"]))
    assert begun.points[0].settings["run.init_from"] == f"{run}:10"
    vary = plan(asked._replace(vary=[f"run.init_from={run.name}"]))
    assert vary.points[0].settings["run.init_from"] == str(run)
    assert vary.points[0].labels == {"init_from": run.name}
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        plan(asked._replace(overrides=[*asked.overrides, "run.init_from=nowhere"]))


def test_runs_that_were_begun_stay(first, request_, tmp_path):
    prepare(request_("second", [0.0, 90.0]))
    folder = SweepFolder(tmp_path / "second")
    begun, fresh = folder.points()
    assert folder.journal(fresh).claim() is not None  # by this process, which lives
    asked = iter([False] * 5 + [True] * 1000)
    list(work(WorkRequest(folder.path, wait=False), lambda: next(asked)))
    assert folder.run(begun).holds_run
    planned = prepare(request_("second", [0.0, 90.0], reuse=[first]))
    assert planned.reused == {}
    assert copies(folder) == [False, False]


def test_a_copy_that_fails_leaves_nothing_and_is_made_again(first, request_, tmp_path, monkeypatch):
    copytree = shutil.copytree

    def fail(source, target, *options, **more):  # what it copies is there when the disk is full
        copytree(source, target, *options, **more)
        raise OSError(28, "No space left on device")

    request = request_("second", [0.0, 90.0], reuse=[first])
    monkeypatch.setattr(shutil, "copytree", fail)
    with pytest.raises(OutputError, match=r"cannot be copied .* No space left on device"):
        prepare(request)
    folder = SweepFolder(tmp_path / "second")
    assert list((folder.path / "runs").iterdir()) == []
    assert [folder.state(point) for point in folder.points()] == ["waiting", "waiting"]
    monkeypatch.setattr(shutil, "copytree", copytree)
    left = folder.path / "runs" / f".{folder.points()[0].folder}.1-00000000.tmp"  # of a killed process
    left.mkdir()
    prepare(request)
    assert copies(folder) == [True, True]
    assert not left.exists()


def test_runs_of_other_versions_are_named(first, request_, tmp_path):
    copy = Path(shutil.copytree(first, tmp_path / "copy"))
    for file in copy.glob("runs/*/summary.json"):
        summary = json.loads(file.read_text())
        summary["versions"]["jax"] = "0.1.0"
        file.write_text(json.dumps(summary))
    notes = plan(request_("second", [0.0], reuse=[copy])).notes
    assert "was trained with jax 0.1.0 instead of " in notes[0]


def test_refusals(request_, tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        plan(request_("second", [0.0], reuse=[tmp_path / "nowhere"]))
    with pytest.raises(ConfigError, match="contains no finished runs"):
        plan(request_("second", [0.0], reuse=[tmp_path]))
    request = request_("second", [0.0], reuse=[tmp_path], search="trials=1")
    with pytest.raises(ConfigError, match="cannot be used with a search"):
        plan(request._replace(overrides=(*request.overrides, "data.validation_examples=100")))


@pytest.mark.parametrize(
    ("name", "other", "number"),
    [("beyond", "fig4-adjacent", 10), ("beyond", "fig4-loop", 10), ("loop-decay", "fig4-loop", 6)],
)
def test_sweeps_that_say_so_share_runs(name, other, number):
    hashes = [{point.hash for point in expand(load_sweep(own).definition)} for own in (name, other)]
    assert len(hashes[0] & hashes[1]) == number
