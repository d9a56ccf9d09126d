"""Reports of ordinary run folders."""

import csv
import json
import os
import subprocess
import sys

import pytest

from hepcli.errors import ConfigError
from hepcli.experiments.sweeps.collect import collect
from hepcli.experiments.sweeps.collect_runs import collect_runs
from hepcli.experiments.sweeps.report import as_json, report

from .fakes import fake_ordinary_run, fake_run, fake_sweep


def test_run_folders_of_a_shell_loop(tmp_path):
    for points in (1, 2):
        for seed in (0, 1):
            overrides = (f"gradient.num_points={points}", f"run.seed={seed}")
            run = tmp_path / f"n{points}-s{seed}"
            fake_ordinary_run(run, 0.5 + 0.1 * points + 0.02 * seed, overrides)
    made = report(tmp_path)
    assert made.record["axes"] == {"num_points": ["1", "2"]}
    assert [cell["mean"] for cell in made.record["cells"]] == pytest.approx([39, 29])
    assert [cell["n"] for cell in made.record["cells"]] == [2, 2]


def test_only_keys_that_tell_runs_apart_and_matter_are_tabulated(tmp_path):
    """Not what follows from another key, nor what changes no number."""
    of = {
        "hep": ("gradient.method=hep", "optimizer.learning_rate=0.02", "checkpoints.keep_latest=3"),
        "exact": ("gradient.method=hep_exact", "optimizer.learning_rate=0.01"),
        "bptt": ("gradient.method=bptt", "optimizer.learning_rate=0.01", "data.eval_batch_size=500"),
    }
    for name, overrides in of.items():
        fake_ordinary_run(tmp_path / name, 0.5, overrides)
    assert list(report(tmp_path).record["axes"]) == ["method"]
    by_keys = report(tmp_path, keys=["optimizer.learning_rate", "gradient.method"])
    assert list(by_keys.record["axes"]) == ["learning_rate", "method"]
    assert [cell["n"] for cell in by_keys.record["cells"]] == [1, 1, 1]


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (["optimizer.learning_rate"], "differ in gradient.method"),
        (["gradient.metod"], "did you mean gradient.method"),
    ],
)
def test_keys_that_mix_runs_or_are_none(tmp_path, keys, says):
    fake_ordinary_run(tmp_path / "a", 0.5, ("gradient.method=hep",))
    fake_ordinary_run(tmp_path / "b", 0.5, ("gradient.method=bptt",))
    with pytest.raises(ConfigError, match=says):
        report(tmp_path, keys=keys)


def test_runs_that_differ_without_effect_are_told_apart_where_they_share_a_seed(tmp_path):
    fake_ordinary_run(tmp_path / "a", 0.5)
    fake_ordinary_run(tmp_path / "b", 0.6, ("checkpoints.keep_latest=7",))
    assert list(report(tmp_path).record["axes"]) == ["keep_latest"]


def test_runs_of_one_configuration_and_seed_count_once(tmp_path):
    """Finished ones before others; which one is left out is said."""
    fake_ordinary_run(tmp_path / "a", 0.5)
    (tmp_path / "a" / "summary.json").unlink()
    fake_ordinary_run(tmp_path / "b", 0.6)
    fake_ordinary_run(tmp_path / "c", 0.9)
    made = report(tmp_path)
    (cell,) = made.record["cells"]
    assert (cell["n"], cell["mean"]) == (1, pytest.approx(40))
    assert made.grids[0].rows == (("40.00 (1)",),)
    left_out = [notice.split()[0] for notice in made.notices]
    assert sorted(left_out) == [str(tmp_path / "a"), str(tmp_path / "c")]


@pytest.mark.parametrize(
    ("axis", "name", "records"),
    [
        ("name", "fashion_mnist_mini", [{"dataset_sha256": text * 64} for text in "ab"]),
        ("init_from", "w.npz", [{"init_from": {"step": 1, "sha256": text}} for text in "ab"]),
    ],
)
def test_what_one_name_stood_for_at_different_times_is_told_apart(tmp_path, axis, name, records):
    """Runs on other examples, or from other weights, of the same name are not averaged or left out."""
    for place, record in enumerate(records):
        for seed in (0, 1):
            folder = tmp_path / f"{place}-{seed}"
            fake_ordinary_run(folder, 0.5 + 0.1 * place, (f"run.seed={seed}", "run.init_from=w.npz"))
            file = folder / "summary.json"
            file.write_text(json.dumps(json.loads(file.read_text()) | record))
    made = report(tmp_path)
    assert made.notices == ()
    assert [cell["n"] for cell in made.record["cells"]] == [2, 2]
    assert all(label.startswith(f"{name} (") for label in made.record["axes"][axis])


def test_a_backup_beside_the_runs_does_not_count(tmp_path):
    fake_ordinary_run(tmp_path / "a", 0.5)
    fake_ordinary_run(tmp_path / ".a", 0.9, ("run.seed=1",))
    assert [cell["n"] for cell in report(tmp_path).record["cells"]] == [1]


def test_no_two_columns_have_one_name(tmp_path):
    """Epochs are an axis and a number of every summary."""
    for epochs in (1, 2):
        fake_ordinary_run(tmp_path / str(epochs), 0.5, (f"run.epochs={epochs}",))
        file = tmp_path / f"{epochs}/summary.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"epochs": epochs}))
    report(tmp_path)
    header = (tmp_path / "runs.csv").read_text().splitlines()[0].split(",")
    assert len(header) == len({*header})
    assert {"epochs", "epochs (axis)"} <= {*header}


def test_what_runs_said_is_repeated_once(tmp_path):
    """Notices that differ in numbers only are of one kind."""
    for seed, said in enumerate([["epoch 2: 5 rest.", "|β| = 1e-05."], ["epoch 1: 3 rest."], []]):
        fake_ordinary_run(tmp_path / f"s{seed}", 0.5, (f"run.seed={seed}",))
        file = tmp_path / f"s{seed}/summary.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"notices": said}))
    first = "s0: epoch 2: 5 rest. The same is true of 1 other run."
    assert report(tmp_path).notices == (first, "s0: |β| = 1e-05.")


def test_points_that_learned_from_or_began_with_others_are_named(tmp_path):
    folder, points = fake_sweep(tmp_path, [0.5] * 18)
    for seed, point in enumerate(points):
        own = {"dataset": "own", "dataset_sha256": str(seed)}
        own["init_from"] = {"config_hash": "a", "step": 10 + (seed == 17)}
        file = folder.run(point).path / "summary.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | own))
    examples, starts = report(tmp_path).notices
    assert f"{points[1].folder} was trained on other examples of the data set own than" in examples
    assert f"{points[17].folder} began with other weights of quickstart than" in starts


def test_run_folders_that_are_not_whole_are_said(tmp_path):
    fake_ordinary_run(tmp_path / "a", 0.5)
    fake_ordinary_run(tmp_path / "b", 0.6, ("run.seed=1",))
    (tmp_path / "b" / "summary.json").unlink()
    (tmp_path / "c" / "checkpoints").mkdir(parents=True)
    fake_run(tmp_path / "d", 0.7, "0" * 12)
    (tmp_path / "notes").mkdir()
    assert report(tmp_path).notices == (
        f"{tmp_path / 'c'} has no config.toml. It is left out.",
        f"{tmp_path / 'd'} has no config.toml. It is left out.",
        f"{tmp_path / 'b'} has no summary.json: it is not finished, and is left out.",
    )
    (tmp_path / "a" / "config.toml").unlink()
    (tmp_path / "b" / "config.toml").unlink()
    with pytest.raises(ConfigError, match=r"a has no config\.toml\. .*d has no config\.toml\."):
        report(tmp_path)


def test_a_folder_whose_name_is_not_utf8(tmp_path):
    folder = tmp_path / os.fsdecode(b"u\xff")
    fake_ordinary_run(folder / "a", 0.5)
    made = report(folder)
    assert "u\\udcff" in (folder / "table.md").read_text()
    assert "u\\udcff" in json.loads(as_json(made))["files"][0]
    assert made.notices == ()
    command = [sys.executable, "-c", "from hepcli.cli import main; main()", "sweep", "--report", folder]
    done = subprocess.run(command, capture_output=True, check=False)
    assert b"u\xff/table.csv\n" in done.stdout, done.stderr


def test_long_values_that_differ_at_their_ends_are_two_conditions(tmp_path):
    every = ["in-l1", "in-l2", "in-out", "l1-l2", "l1-out", "l2-out", "l2-l1", "out-l2"]
    for top1, last in ((0.5, "out-l1"), (0.6, "l1-l1")):
        connections = json.dumps([*every, last])
        settings = [f"network.connections={connections}", 'relaxation.order=[["l1"],["l2"],["out"]]']
        fake_ordinary_run(tmp_path / last, top1, settings)
    found = {cell["labels"]["network of"]: cell["mean"] for cell in report(tmp_path).record["cells"]}
    assert found == {"out-l1": pytest.approx(50), "l1-l1": pytest.approx(40)}  # called after their folders
    made = report(tmp_path, keys=["network.connections"])
    labels = [cell["labels"]["connections"] for cell in made.record["cells"]]
    assert len({label[:30] for label in labels}) == 1
    assert len(set(labels)) == 2


def test_runs_with_and_without_validation_examples(tmp_path):
    """What some of them lack is empty; no table fails for it."""
    fake_ordinary_run(tmp_path / "with", 0.5, ["data.validation_examples=100"])
    fake_ordinary_run(tmp_path / "without", 0.6)
    file = tmp_path / "with" / "summary.json"
    summary = json.loads(file.read_text())
    summary["selection"]["validation"] = {"top1": 0.25}
    file.write_text(json.dumps(summary))
    report(tmp_path)
    lines = {
        line["folder"]: line for line in csv.DictReader((tmp_path / "runs.csv").read_text().splitlines())
    }
    assert (lines["with"]["validation_error"], lines["without"]["validation_error"]) == ("75.0", "")


def test_networks_in_folders_of_one_name_are_told_apart(tmp_path):
    for top1, place, last in ((0.5, "x", "l2-l1"), (0.9, "y", "out-l1")):
        connections = json.dumps(["in-l1", "l1-l2", "l2-out", "out-l2", last])
        settings = [f"network.connections={connections}", "relaxation.order=sequential"]
        fake_ordinary_run(tmp_path / place / "s0", top1, settings)
    made = collect_runs([tmp_path / "x" / "s0", tmp_path / "y" / "s0"], "two")
    assert made.axes == {"network of": ["s0", "y/s0"]}


def test_a_number_of_a_kernel_is_an_axis(tmp_path):
    for gain in (1.0, 0.5, 0.25):
        fake_ordinary_run(tmp_path / str(gain), 0.5, [f"network.kernels.l1-l2={{gain={gain}}}"])
    assert collect(tmp_path).axes == {"gain": ["0.25", "0.5", "1.0"]}
