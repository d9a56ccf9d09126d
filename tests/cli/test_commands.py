"""The commands as a user types them, in processes of their own."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from hepcli.cli import app
from hepcli.cli.evaluate import _format
from hepcli.config import load_config, preset_text, read_config

SMALL = [
    *("--set", "network.layers.l1.units=16", "--set", "network.layers.l2.units=12"),
    *("--set", "relaxation.free_steps=12", "--set", "relaxation.nudged_steps=4"),
]
HEP = [sys.executable, "-c", "from hepcli.cli import main; main()"]


def test_shares_are_shown_in_percent_and_accuracies_as_errors():
    assert (_format("converged", 0.975), _format("top1", 0.8125)) == ("97.50 %", "18.75 %")


def hep(*args, **options):
    return subprocess.run([*HEP, *map(str, args)], capture_output=True, text=True, check=False, **options)


def start(*args):
    return subprocess.Popen(
        [*HEP, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(path, pattern, process):
    """Until the file at `path` matches, or fail when the process ends first."""
    wait_until(lambda: path.exists() and re.search(pattern, path.read_text()), process)


def wait_until(come, process):
    """Until something has come about, or fail when the process ends first."""
    for _ in range(600):
        if come():
            return
        if process.poll() is not None:
            pytest.fail(process.communicate()[1])
        time.sleep(0.1)
    pytest.fail("took too long")


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    done = hep("train", *SMALL, "--epochs", 4, "--out", folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{folder}\n"
    assert len(re.findall(r"^epoch \d/4 .* images/s", done.stderr, re.MULTILINE)) == 4
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_resumes_with_the_command_it_prints(tmp_path, whole_run, number):
    folder = tmp_path / "run"
    process = start("train", *SMALL, "--epochs", 4, "--out", folder)
    wait_for(folder / "metrics.jsonl", r'"epoch": 1', process)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == 130
    command = re.search(r"^Saved\. Continue with: hep (.*)$", errors, re.MULTILINE)[1]
    resumed = hep(*command.split())
    assert resumed.returncode == 0, resumed.stderr
    assert (folder / "metrics.jsonl").read_bytes() == (whole_run / "metrics.jsonl").read_bytes()


@pytest.mark.slow
def test_a_killed_run_resumes(tmp_path, whole_run):
    """SIGKILL again and again, each time at another moment after the run has begun."""
    folder = tmp_path / "run"
    arguments = ("train", *SMALL, "--epochs", 4, "--set", "checkpoints.every_steps=7", "--out", folder)
    delays = iter((0.05, 0.3, 0.7))
    process = start(*arguments)
    wait_until(lambda: any(folder.glob("checkpoints/[0-9]*/manifest.json")), process)  # a whole one
    for delay in delays:
        time.sleep(delay)
        process.kill()
        process.communicate()
        process = start("train", "--resume", "--out", folder)
        time.sleep(4)  # start-up
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert (folder / "metrics.jsonl").read_bytes() == (whole_run / "metrics.jsonl").read_bytes()


@pytest.mark.slow
def test_a_full_disk_stops_with_advice_and_loses_nothing(tmp_path):
    """A limit on the size of files stands in for a disk that fills up while a step is saved."""
    folder = tmp_path / "run"
    limit = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000));"
        "from hepcli.cli import main; main()"
    )
    command = [sys.executable, "-c", limit, "train", "--epochs", "1", "--out", str(folder)]
    command += ["--set", "network.layers.l1.units=16"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_json_goes_to_stdout_alone(whole_run):
    done = hep("eval", whole_run, "--json")
    record = json.loads(done.stdout)
    expected = ["dataset", "split", "examples", "loss", "top1", "top5", "log10_residual", "converged"]
    expected += ["step", "checkpoint"]
    assert set(expected) <= set(record)
    assert done.returncode == 0
    assert record["examples"] == 1000


def test_eval_for_people(whole_run):
    done = hep("eval", whole_run)
    assert re.search(r"\berror +\d+\.\d\d %", done.stderr)
    assert done.stdout == f"{whole_run}/checkpoints/400\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--preset", "quickstrat"], "quickstart"),
        (["train", "--set", "gradient.num_pionts=2"], "gradient.num_points"),
        (["train", "--set", "run.epochs=many"], "run.epochs"),
        (["train", "--set", "optimizer.learning_rate=nan"], "optimizer.learning_rate"),
        (["train", "--set", 'network.connections=["in-l1", "l1-out", "l9-out"]'], "l9"),
        (["train", "--preset", "fashion-mnist", "--data-dir", "/nonexistent/place"], "hep data prepare"),
        (["eval", "/nonexistent/run"], "does not exist"),
        (["data", "prepare", "fashion_minst"], "fashion_mnist"),
        (["presets", "imagenet"], "presets"),
    ],
)
def test_what_and_what_to_do(tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("error: ")
    assert "\n  try: " in result.stderr
    assert says in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_usage_errors_keep_status_2():
    assert CliRunner().invoke(app, ["train", "--epoch", "3"]).exit_code == 2
    assert CliRunner().invoke(app, ["eval"]).exit_code == 2


def test_debug_shows_the_traceback(tmp_path):
    done = hep("--debug", "eval", tmp_path, env=os.environ | {"NO_COLOR": "1"})
    assert done.returncode == 1
    assert "CheckpointError" in done.stderr


@pytest.mark.slow
def test_a_printed_preset_trains_as_the_preset_does(tmp_path):
    printed = hep("presets", "quickstart")
    assert printed.stderr == ""
    mine, more = tmp_path / "mine.toml", tmp_path / "more.toml"
    mine.write_text(printed.stdout, encoding="utf-8")
    more.write_text('extends = "mine.toml"\n[data]\nbatch_size = 500\n')
    done = hep("train", *SMALL, "--preset", more, "--epochs", 1, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    settings = [*SMALL[1::2], "run.epochs=1", "data.batch_size=500"]
    trained = read_config(tmp_path / "run")
    settings.append(f"run.devices={trained.run.devices}")  # as many as help on this machine
    assert trained == load_config("quickstart", settings).config
    saved = (tmp_path / "run" / "config.toml").read_text()
    for line in (f"batch_size = 500 # file {more}", f"tolerance = 0.0001 # file {mine}", "epochs = 1 # flag"):
        assert f"\n{line}\n" in saved


def test_a_file_of_ones_own_is_printed_too(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('# Mine\nextends = "cifar10"\n[run]\nepochs = 7\n')
    printed = CliRunner().invoke(app, ["presets", str(path)]).stdout
    assert printed.startswith(f"# Mine\n\n[run]\nseed = 0 # preset fashion-mnist\nepochs = 7 # file {path}\n")


def test_presets_print_and_list():
    listed = CliRunner().invoke(app, ["presets"])
    assert "fashion-mnist-loop" in listed.stdout
    printed = CliRunner().invoke(app, ["presets", "quickstart"])
    assert printed.stdout.startswith("# First run: ")
    assert "\ntolerance = 0.0001 # preset quickstart\n" in printed.stdout
    assert "\nfree_steps = 150 # preset fashion-mnist\n" in printed.stdout
    sweep = CliRunner().invoke(app, ["presets", "sweeps/fig3"])
    assert sweep.stdout == preset_text("sweeps/fig3")
    assert CliRunner().invoke(app, ["--version"]).stdout.startswith("hep ")
