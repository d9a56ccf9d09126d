"""Reports: from the folder alone, complete or not, and from ordinary run folders."""

import csv
import json

import pytest

from hepcli.errors import ConfigError, OutputError
from hepcli.experiments.figures.captions import number_format
from hepcli.experiments.sweeps.claims import FAILED
from hepcli.experiments.sweeps.collect import collect
from hepcli.experiments.sweeps.figure import figure_of
from hepcli.experiments.sweeps.report import report
from hepcli.experiments.sweeps.tables import latex_text

from .fakes import TABLES, fake_ordinary_run, fake_sweep


def test_mean_and_spread_over_the_seeds(tmp_path):
    fake_sweep(tmp_path, [0.8, 0.9, 1.0] + [0.5] * 15)
    made = report(tmp_path)
    cell = made.record["cells"][0]
    assert cell["labels"] == {"|β|": "0.05", "N": "1"}
    assert (cell["n"], cell["mean"], cell["std"]) == (3, pytest.approx(10), pytest.approx(10))
    assert made.grids[0].header == ("|β|", "N = 1", "N = 2", "N = 4")
    assert made.grids[0].rows[0][1] == "10.00 ± 10.00 (3)"
    assert made.grids[0].rows[1] == ("0.5", "50.00 ± 0 (3)", "50.00 ± 0 (3)", "50.00 ± 0 (3)")
    table = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [float(row["mean"]) for row in table] == pytest.approx([10, 50, 50, 50, 50, 50])
    assert "| 0.5 | 50.00 ± 0 (3)" in (tmp_path / "table.md").read_text()
    assert r"| \|β\| |" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    panel = figure_of(collect(tmp_path)).panels[0]
    assert (panel.series[0].y[0], panel.series[0].error[0]) == (pytest.approx(10), pytest.approx(10))


def test_grids_that_share_a_point_are_reported(tmp_path):
    """It is there once."""
    axes = [{"name": "N", "key": "gradient.num_points", "values": values} for values in ([1, 2], [2, 4])]
    fake_sweep(tmp_path, [0.5] * 3 + [0.6] * 3 + [0.7] * 3, axis=[], grid=[{"axis": [axis]} for axis in axes])
    cells = report(tmp_path).record["cells"]
    assert [(cell["labels"]["N"], cell["n"]) for cell in cells] == [("1", 3), ("2", 3), ("4", 3)]


def test_an_incomplete_sweep_says_so_and_holds_no_nan(tmp_path):
    folder, points = fake_sweep(tmp_path, [0.8, None, None, 0.7, 0.9] + [None] * 13)
    for _ in range(2):
        folder.journal(points[-1]).claim().settle(
            FAILED, what="The loss of step 3 is nan: training has diverged.", advice="Lower it."
        )
    made = report(tmp_path)
    assert [cell["n"] for cell in made.record["cells"]] == [1, 2, 0, 0, 0, 0]
    assert made.record["cells"][0]["std"] is None
    assert made.record["cells"][2]["mean"] is None
    assert made.grids[0].rows[0][1:] == ("20.00 (1/3)", "20.00 ± 14.14 (2/3)", "– (0/3)")
    assert "a/b: a of b runs have a value" in made.grids[0].note
    assert "1 failed" in made.grids[0].note
    last = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))[-1]
    assert (last["n"], last["runs"], last["failed"]) == ("0", "3", "1")
    assert made.record["runs"] == {"done": 3, "running": 0, "waiting": 14, "failed": 1}
    assert made.record["failed"][0]["error"] == "The loss of step 3 is nan: training has diverged. Lower it."
    for name in ("table.json", "table.csv"):
        assert "NaN" not in (tmp_path / name).read_text()


def test_nothing_finished_yet(tmp_path):
    fake_sweep(tmp_path, [None] * 18)
    assert report(tmp_path).grids[0].rows[0][1:] == ("– (0/3)",) * 3


@pytest.mark.parametrize(
    ("size", "spread", "text"),
    [
        (14.05, 0.07, "14.05"),
        (14.05, 0.0032, "14.0500"),
        (0.99873, 0.00021, "0.99873"),
        (0.12, 0.0035, "0.1200"),
        (0.8734, None, "0.8734"),
        (0.5, 0.3, "0.50"),
        (1234.5, 312.0, "1234"),
        (2.5e-5, 3e-6, "2.5e-05"),
    ],
)
def test_numbers_show_their_spread(size, spread, text):
    assert format(size, number_format(size, spread)) == text


def test_another_value_in_the_table(tmp_path):
    fake_sweep(tmp_path, [0.8] * 18)
    made = report(tmp_path, "test.loss")
    assert made.record["value"] == "test.loss"
    assert [file.name for file in made.files[:2]] == ["table.test.loss.csv", "table.test.loss.json"]
    assert not (tmp_path / "table.csv").exists()  # the sweep's own table is not replaced
    assert made.grids[0].rows[0][1] == "0.5 ± 0 (3)"
    assert report(tmp_path).record["value"] == "test_error"


def test_a_value_that_no_run_has(tmp_path):
    fake_sweep(tmp_path, [0.8] * 18)
    with pytest.raises(ConfigError, match=r"test\.top9") as error:
        report(tmp_path, "test.top9")
    assert "test.top1" in error.value.advice


@pytest.mark.parametrize("name", [*TABLES, "figure.png", "figure.figure.json"])
def test_files_of_the_users_own_are_not_replaced(tmp_path, name):
    fake_ordinary_run(tmp_path / "run", 0.8)
    (tmp_path / name).write_text("[1]")
    with pytest.raises(OutputError, match=f"{name} was not written by an earlier report"):
        report(tmp_path)
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == [name]
    (tmp_path / name).unlink()
    report(tmp_path)
    report(tmp_path)  # replaces its own


def test_a_line_a_run_with_all_its_numbers(tmp_path):
    _, points = fake_sweep(tmp_path, [0.8, 0.9, None] + [0.5] * 15)
    report(tmp_path)
    lines = list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines()))
    assert len(lines) == 17
    assert [line["folder"] for line in lines[:2]] == [points[0].folder, points[1].folder]
    own = [(line["|β|"], line["N"], line["seed"], float(line["test_error"])) for line in lines[:2]]
    assert own == [("0.05", "1", "0", pytest.approx(20)), ("0.05", "1", "1", pytest.approx(10))]
    assert float(lines[0]["test.loss"]) == 0.5


def test_the_table_for_latex_is_one(tmp_path):
    fake_sweep(tmp_path, [0.8, 0.9, 1.0] + [0.5] * 15)
    report(tmp_path)
    text = (tmp_path / "table.tex").read_text()
    assert r"\begin{tabular}{lrrr}" in text
    assert r"$|\beta|$ & N = 1 & N = 2 & N = 4 \\" in text
    assert r"0.5 & 50.00 $\pm$ 0 (3)" in text


def test_measures_after_every_epoch_can_be_tabulated(tmp_path):
    """The bias against the angle, say; summaries of older runs lack them, their last lines do not."""
    overrides = {"run.measure_examples": 4}
    tables = {"value": "asymmetry.cosine.total", "rows": ["|β|"], "columns": ["N"]}
    sweep = {"preset": "quickstart", "seeds": [0, 1, 2], "set": overrides}
    folder, points = fake_sweep(tmp_path, [0.8] * 18, sweep=sweep, table=tables)
    for point in points:
        file = folder.run(point).path / "metrics.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        lines = [line | {"asymmetry": {"cosine": {"total": 0.25}}} for line in lines]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert {cell["mean"] for cell in report(tmp_path).record["cells"]} == {0.25}


def test_values_are_checked_before_files_are_called_after_them(tmp_path):
    fake_sweep(tmp_path, [None] * 18)
    for value in ("nonsense", "../../x/y", ""):
        with pytest.raises(ConfigError, match="there is no such value"):
            report(tmp_path, value)
    assert not list(tmp_path.glob("table.*.json"))


def test_files_of_the_users_own_stay_beside_an_earlier_report(tmp_path):
    """An earlier version wrote no runs.csv: one that is there is the user's."""
    fake_ordinary_run(tmp_path / "run", 0.8)
    report(tmp_path)
    report(tmp_path)
    record = json.loads((tmp_path / "table.json").read_text())
    del record["files"]
    (tmp_path / "table.json").write_text(json.dumps(record))
    (tmp_path / "table.tex").unlink()
    with pytest.raises(OutputError, match=r"runs\.csv was not written by an earlier report"):
        report(tmp_path)


def test_what_latex_takes_for_its_own_is_written_out(tmp_path):
    axes = [{"name": "order", "key": "relaxation.order", "values": [[["l1", "out"], ["l2"]], "cyclic"]}]
    sweep = {"preset": "quickstart", "seeds": [0], "title": "50 % of x_1^2\nand {more} ~"}
    fake_sweep(tmp_path, [0.5, 0.6], axis=axes, sweep=sweep)
    report(tmp_path)
    text = (tmp_path / "table.tex").read_text()
    assert '{}[["l1", "out"], ["l2"]]' in text
    assert text.splitlines()[0].startswith("% 50 % of x_1^2 and {more} ~")
    assert (
        latex_text("a_b^2 & 5 % {~} <|β|")
        == r"a\_b\textasciicircum{}2 \& 5 \% \{\textasciitilde{}\} $<$$|\beta|$"
    )
