"""`hep sweep` as a user types it: whole sweeps, killed ones, two at once, and bad input."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hepcli.cli import app
from hepcli.experiments.sweeps.definition import SweepRequest, definition_of
from hepcli.experiments.sweeps.folder import SweepFolder
from hepcli.experiments.sweeps.joining import join
from hepcli.experiments.sweeps.points import expand

SMALL = [
    *("--set", "network.layers.l1.units=8", "--set", "network.layers.l2.units=6"),
    *("--set", "relaxation.free_steps=4", "--set", "relaxation.nudged_steps=2"),
    *("--set", "data.batch_size=500", "--epochs", "2"),
]
# An angle is no shape: all points are one program, and compile once.
VARY = ["--vary", "network.initial_angle_deg=0.0,45.0", "--seeds", "0-1"]
SWEEP = ["sweep", "--preset", "quickstart", *VARY, *SMALL]
HEP = [sys.executable, "-m", "hepcli"]


def start(out, *more):
    command = [*HEP, *SWEEP, "--out", str(out), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output, errors


def entries(out):
    """States in the journal of each point, in order."""
    return [
        [json.loads(file.read_text() or "{}").get("state") for file in sorted(folder.glob("*.json"))]
        for folder in sorted((out / "claims").iterdir())
    ]


def assert_whole(out):
    """Every point was done exactly once, and all of it is there."""
    states = entries(out)
    assert len(states) == 4
    assert all(own.count("done") == 1 and own[-1] == "done" for own in states), states
    for run in (out / "runs").iterdir():
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in lines] == [1, 2]
        assert json.loads((run / "summary.json").read_text())["epochs"] == 2
    table = json.loads((out / "table.json").read_text())
    assert [cell["n"] for cell in table["cells"]] == [2, 2]
    assert table["runs"]["done"] == 4


@pytest.mark.slow
def test_a_sweep_from_start_to_report(tmp_path):
    output, errors = finish(start(tmp_path / "out", "--jobs", "2", "--together"))
    out = tmp_path / "out"
    assert output.splitlines() == [
        str(out / f) for f in ("table.csv", "table.json", "table.md", "table.tex", "runs.csv", "figure.png")
    ]
    assert "4/4 done" in errors
    assert_whole(out)
    before = {file: file.stat().st_mtime_ns for file in (out / "runs").rglob("*") if file.is_file()}
    started = len(entries(out)[0])
    # Nothing is left to do, and nothing is touched; the folder says what the sweep is.
    again = CliRunner().invoke(app, ["sweep", "--resume", "--out", str(out)], catch_exceptions=False)
    assert again.exit_code == 0
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert len(entries(out)[0]) == started
    run = next((out / "runs").iterdir())
    record = CliRunner().invoke(app, ["eval", str(run), "--json"])
    assert json.loads(record.stdout)["step"] == 20
    other = CliRunner().invoke(app, [*SWEEP, "--out", str(out), "--seeds", "0-2"])
    assert other.exit_code == 1
    assert "seeds is [0, 1] there, but [0, 1, 2] was requested" in other.stderr


@pytest.mark.slow
def test_killed_again_and_again_every_point_is_done_once(tmp_path):
    """SIGKILL of the parent, of a worker, and a signal that lets them save, at moments drawn once."""
    out, moments = tmp_path / "out", random.Random(0)
    for victim in ("worker", "parent", "interrupt"):
        process = start(out, "--jobs", "2")
        wait_for_work(out, process)
        time.sleep(moments.uniform(0, 3))
        if victim == "worker":
            kill_a_worker(process)
            time.sleep(1)
        process.send_signal(signal.SIGINT if victim == "interrupt" else signal.SIGKILL)
        _, errors = process.communicate(timeout=120)
        if victim == "interrupt" and process.returncode == 130:
            # Workers of the killed parent claim on, so that this one may be stopped before it has begun.
            assert "Continue with: hep" in errors or errors == "Interrupted.\n"
    finish(start(out, "--jobs", "2"))
    assert_whole(out)


def wait_for_work(out, process):
    """Until a point is claimed anew, or the process has ended."""
    count = lambda: len(list((out / "claims").glob("*/*.json")))  # noqa: E731
    before = count()
    while process.poll() is None and count() == before:
        time.sleep(0.1)


def kill_a_worker(parent):
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == parent.pid:
            os.kill(int(status.parent.name), signal.SIGKILL)
            return


@pytest.mark.slow
def test_two_parents_at_once_share_the_work(tmp_path):
    parents = [start(tmp_path / "out") for _ in range(2)]
    for parent in parents:
        finish(parent)
    assert_whole(tmp_path / "out")
    assert all(own == ["claimed", "done"] for own in entries(tmp_path / "out"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["table7"], "table1"),
        ([], "give either SWEEP or --preset with --vary"),
        (["table1", "--preset", "quickstart"], "give either SWEEP or --preset with --vary"),
        (["--preset", "quickstart", "--vary", "gradient.num_pionts=1"], "gradient.num_points"),
        (["--preset", "quickstart", "--vary", "gradient.num_points=one"], "must be a whole number"),
        (["--preset", "quickstart", "--vary", "gradient.num_points="], "is empty"),
        (["--preset", "quickstart", "--vary", "run.epochs=1,1"], "1 is given twice"),
        (["--preset", "quickstart", "--vary", "run.seed=1,2"], "--seeds"),
        (["--preset", "quickstart", "--seeds", "4-0"], "--seeds 4-0"),
        (["--preset", "quickstart", "--shard", "3/2"], "--shard 3/2"),
        (["--preset", "quickstart", "--resume", "--out", "nowhere"], "contains no sweep to resume"),
        (["--resume", "--out", "nowhere"], "contains no sweep to resume"),
        (["--resume"], "--resume needs the folder of the sweep"),
        (["--preset", "quickstart", "--slurm", "partition"], "is not KEY=VALUE"),
        (["--preset", "quickstart", "--set", "run.epochs=2", "--epochs", "3"], "both"),
        (["table1", "--set", "gradient.num_points=3"], "axis estimator already sets this key"),
        (["table1", "--data-dir", "nowhere"], "hep data prepare"),
        (["--preset", "quickstart", "--vary", "optimizer.learning_rate=0.1..1"], "a range needs a search"),
        (["--preset", "quickstart", "--search", "trials=3"], "there is no axis to search"),
        (["--report", "nowhere"], "neither a sweep nor run folders"),
        (["table1", "--report", "nowhere", "--dry-run"], "combined with SWEEP, --dry-run"),
        (["--report", "nowhere", "--out", "tables"], "combined with --out"),
        (["--report", "nowhere", "--data-dir", "data"], "combined with --data-dir"),
    ],
)
def test_bad_input_says_what_and_what_to_do(tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["sweep", *arguments])
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("error: ")
    assert "\n  try: " in result.stderr
    assert says in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_prints_the_points_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["sweep", "table1", "--dry-run", "--json", "--shard", "1/25"])
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["folder"] == "sweeps/table1"
    assert [point["seed"] for point in record["points"]] == [1, 1]
    assert "N = 4" in result.stderr
    quiet = CliRunner().invoke(app, ["sweep", "table1", "--dry-run", "--json", "--shard", "1/25", "--quiet"])
    assert (quiet.stdout, quiet.stderr) == (result.stdout, "")
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_refuses_what_the_command_would(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (_, definition), _ = definition_of(SweepRequest("table1"))
    join(SweepFolder(tmp_path / "sweeps/table1"), definition, expand(definition))
    same = CliRunner().invoke(app, ["sweep", "table1", "--dry-run"])
    assert same.exit_code == 0
    other = CliRunner().invoke(app, ["sweep", "table1", "--dry-run", "--seeds", "7"])
    assert other.exit_code == 1
    assert "contains another sweep: seeds is" in other.stderr


@pytest.mark.parametrize(("key", "whole"), [("homeostasis.weight", False), ("gradient.num_points", True)])
def test_a_range_is_of_the_numbers_that_its_key_holds(key, whole):
    request = SweepRequest(preset="quickstart", vary=[f"{key}=1..4"], search="trials=2")
    request = request._replace(overrides=["data.validation_examples=500"])
    (_, definition), _ = definition_of(request)
    assert definition.axis[0].integer == whole


def test_a_sweep_with_own_code_is_resumed_from_its_copy(tmp_path):
    """Although the file itself has changed since; the preset needs it, too."""
    file, out, preset = tmp_path / "mine.py", tmp_path / "out", tmp_path / "mine.toml"
    preset.write_text('extends = "quickstart"\n[network]\nactivation = "mine"\n[gradient]\nnum_points = 2\n')
    file.write_text('import hepcli\nhepcli.register_activation("mine")(lambda z: z / (1 + abs(z)))\n')
    make = (
        "from pathlib import Path; from hepcli.experiments.sweep import prepare; "
        "from hepcli.experiments.sweeps.definition import SweepRequest; "
        f"prepare(SweepRequest(preset={str(preset)!r}, vary=['network.activation=mine,sigmoid'], "
        f"out=Path({str(out)!r}), code=[Path({str(file)!r})]))"
    )
    subprocess.run([sys.executable, "-c", make], check=True)
    file.write_text("raise RuntimeError\n")
    command = [*HEP, "sweep", "--resume", "--out", str(out), "--dry-run"]
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "mine" in again.stdout + again.stderr
