"""Differences between conditions, paired by seed."""

import csv

import pytest

from hepcli.errors import ConfigError
from hepcli.experiments.sweeps.report import report

from .fakes import fake_sweep


def test_differences_are_paired_by_seed(tmp_path):
    """Seeds differ by far more than conditions: only in pairs is the difference resolved."""
    base, gaps = [0.2, 0.5, 0.8], [0.01, 0.02, 0.03]
    better = [value + gap for value, gap in zip(base, gaps, strict=True)]
    fake_sweep(tmp_path, base + better + [0.9, None, None] + base * 3)
    made = report(tmp_path, against="N=1")
    found = {tuple(one["labels"].values()): one for one in made.record["differences"]["of"]}
    assert len(found) == 4
    own = found["0.05", "2"]
    half = 4.302652729911275 * 1.0 / 3**0.5  # of t with two degrees of freedom, of gaps of 1, 2 and 3 points
    assert (own["mean"], own["low"], own["high"]) == pytest.approx((-2, -2 - half, -2 + half))
    assert (found["0.05", "4"]["seeds"], found["0.05", "4"]["low"]) == ((0,), None)
    assert made.grids[1].rows[0] == ("0.05", "−2.00, −4.48 to 0.48 (3)", "−70.00 (1/3)")
    assert "paired t" in (tmp_path / "table.md").read_text()
    lines = list(csv.DictReader((tmp_path / "table.differences.csv").read_text().splitlines()))
    assert float(lines[0]["mean"]) == pytest.approx(-2)
    assert r"$-$2.00" in (tmp_path / "table.tex").read_text()
    with pytest.raises(ConfigError, match="no axis has this label") as error:
        report(tmp_path, against="5")
    assert "0.05" in error.value.advice


def test_a_label_of_several_axes_needs_its_axis(tmp_path):
    keys = {"a": "gradient.num_points", "b": "run.epochs"}
    axes = [{"name": name, "key": key, "values": [1, 2]} for name, key in keys.items()]
    fake_sweep(tmp_path, [0.5] * 12, axis=axes)
    with pytest.raises(ConfigError, match="several axes") as error:
        report(tmp_path, against="1")
    assert "--against 'a=1' or --against 'b=1'" in error.value.advice
    assert len(report(tmp_path, against="a=1").record["differences"]["of"]) == 2


def test_a_condition_without_the_axes_of_others_is_compared_with_all_of_them(tmp_path):
    """In a union of grids: one method has a size of nudges, the other has none."""
    grids = [
        {
            "set": {"gradient.method": "hep"},
            "axis": [{"name": "N", "key": "gradient.num_points", "values": [1, 2]}],
        },
        {
            "set": {"gradient.method": "bptt"},
            "axis": [{"name": "m", "points": [{"label": "bptt", "set": {}}]}],
        },
    ]
    fake_sweep(tmp_path, [0.5, 0.6, 0.7, 0.6, 0.7, 0.8, 0.9, 0.9, 0.9], axis=[], grid=grids)
    made = report(tmp_path, against="bptt")
    assert [one["mean"] for one in made.record["differences"]["of"]] == pytest.approx([30, 20])
    assert (tmp_path / "table.differences.csv").exists()
    report(tmp_path)
    assert not (tmp_path / "table.differences.csv").exists()  # it would be of another report


def test_the_reference_with_the_same_labels_comes_before_one_without_them(tmp_path):
    nudges = {"name": "N", "key": "gradient.num_points", "values": [1, 2]}
    methods = [{"label": name, "set": {"gradient.method": name}} for name in ("hep", "asymep")]
    method = {"name": "method", "points": methods}
    grids = [{"set": {"gradient.beta_radius": 0.1}, "axis": [method]}, {"axis": [method, nudges]}]
    fake_sweep(tmp_path, [0.7] * 3 + [0.5] * 3 + [0.8] * 3 + [0.6] * 3 + [0.75] * 6, axis=[], grid=grids)
    found = report(tmp_path, against="hep").record["differences"]["of"]
    assert {one["labels"]["N"]: round(one["mean"], 6) for one in found} == {"–": 20.0, "1": 5.0, "2": -15.0}


def test_what_cannot_be_compared_is_said_and_stays_in_the_table(tmp_path):
    fake_sweep(tmp_path, [0.5] * 3 + [0.6, None, None] + [None] * 3 + [None] * 9)
    made = report(tmp_path, against="N = 1")  # as the table shows it
    assert made.grids[1].rows[0] == ("0.05", "−10.00 (1/3)", "–")
    with pytest.raises(ConfigError, match="no other condition has a finished run with the same"):
        report(tmp_path, against="0.5")
