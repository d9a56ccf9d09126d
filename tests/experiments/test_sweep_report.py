"""Reports: from the folder alone, complete or not, and from ordinary run folders."""

import csv
import json
import os
import re
import subprocess
import sys

import pytest

from hepcli.config import check_sweep, config_hash, dump_config, load_config
from hepcli.errors import ConfigError, OutputError, SweepError
from hepcli.experiments.figures.captions import number_format
from hepcli.experiments.sweeps.claims import FAILED
from hepcli.experiments.sweeps.collect import collect
from hepcli.experiments.sweeps.collect_runs import collect_runs
from hepcli.experiments.sweeps.figure import figure_of
from hepcli.experiments.sweeps.folder import SweepFolder
from hepcli.experiments.sweeps.joining import join
from hepcli.experiments.sweeps.points import expand
from hepcli.experiments.sweeps.report import as_json, report
from hepcli.experiments.sweeps.tables import latex_text

AXES = [
    {"name": "|β|", "key": "gradient.beta_radius", "values": [0.05, 0.5]},
    {"name": "N", "key": "gradient.num_points", "values": [1, 2, 4]},
]
TABLES = ["table.csv", "table.json", "table.md", "table.tex", "runs.csv"]


def fake_run(folder, top1, name, epochs=3):
    """What a report reads of a finished run of a configuration of that hash; None is undefined."""
    folder.mkdir(parents=True, exist_ok=True)
    split = {"top1": top1, "loss": 0.5}
    lines = [{"epoch": e + 1, "test": split, "train": split, "weight_angle_deg": None} for e in range(epochs)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "summary.json").write_text(
        json.dumps(lines[-1] | {"selection": {"test": {"top1": top1}}, "config_hash": name})
    )


def fake_ordinary_run(folder, top1, overrides=()):
    resolved = load_config("quickstart", overrides)
    fake_run(folder, top1, config_hash(resolved.config))
    (folder / "config.toml").write_text(dump_config(resolved))


def fake_sweep(path, results, **views):
    """A sweep whose points had these accuracies; None was not run."""
    tables = {"sweep": {"preset": "quickstart", "title": "A title", "seeds": [0, 1, 2]}, "axis": AXES}
    definition = check_sweep(tables | views, "test")
    folder, points = SweepFolder(path), expand(definition)
    join(folder, definition, points)
    for point, top1 in zip(points, results, strict=True):
        if top1 is not None:
            fake_run(folder.run(point).path, top1, point.hash)
            folder.journal(point).claim().settle("done")
    return folder, points


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


def test_an_axis_is_logarithmic_from_a_decade_on(tmp_path):
    for x, is_log in (("N", False), ("|β|", True)):  # 1, 2, 4; 0.05, 0.5
        figure = {"kind": "lines", "x": x, "series": [{"N": "|β|", "|β|": "N"}[x]]}
        folder, _ = fake_sweep(tmp_path / x.strip("|"), [0.8] * 18, figure=figure)
        assert figure_of(collect(folder.path)).panels[0].x.log == is_log


def test_a_figure_says_where_points_have_different_numbers_of_seeds(tmp_path):
    folder, _ = fake_sweep(tmp_path, [0.8, 0.9, 1.0] + [0.5] * 15)
    assert "; seeds 0–2; mean" in figure_of(collect(folder.path)).caption
    part, _ = fake_sweep(tmp_path / "part", [0.8, 0.9, None, None, 0.5] + [0.5] * 13)
    assert "; seeds 0–2 (2 to 3 per condition); mean" in figure_of(collect(part.path)).caption


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
    "figure",
    [
        {"kind": "bars", "x": "N", "series": ["|β|"]},
        {"kind": "lines", "x": "N", "series": ["|β|"]},
        {"kind": "curves", "y": ["test_error", "test.loss", "weight_angle_deg"], "series": ["|β|", "N"]},
    ],
)
def test_every_kind_of_figure(tmp_path, figure):
    fake_sweep(tmp_path, [0.8] * 10 + [None] * 8, figure=figure)
    report(tmp_path)
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_facets_are_panels_of_their_own(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    view = {"kind": "curves", "y": ["test_error", "test.loss"], "series": ["N"], "facet": "|β|"}
    fake_sweep(tmp_path, [0.8] * 18, figure=view)
    report(tmp_path)
    panels = drawn[0].axes
    assert [panel.get_title() for panel in panels] == ["|β| = 0.05", "|β| = 0.5", "", ""]
    assert all(len(panel.get_lines()) == 3 for panel in panels)


def test_a_series_looks_the_same_in_all_panels(tmp_path, monkeypatch):
    """Where the first one has nothing to show, the others keep their colours; nothing at all is said."""
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    y = ["test_error", "test.loss", "weight_angle_deg"]
    view = {"kind": "curves", "y": y, "series": ["N"], "facet": "|β|"}
    folder, points = fake_sweep(tmp_path, [0.8] * 18, figure=view)
    for point in points:
        if point.labels["N"] == "1":
            metrics = folder.run(point).path / "metrics.jsonl"
            lines = [json.loads(line) for line in metrics.read_text().splitlines()]
            for line in lines:
                line["test"]["loss"] = None
            metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report(tmp_path)
    colours = [{line.get_label(): line.get_color() for line in axes.get_lines()} for axes in drawn[0].axes]
    assert colours[0].keys() == {"N = 1", "N = 2", "N = 4"}
    assert colours[2] == {name: colours[0][name] for name in ("N = 2", "N = 4")}
    assert len(drawn[0].axes) == 4  # no run knows its weight angle: a panel without data is left out


def test_a_curve_has_a_gap_where_a_run_has_no_value(tmp_path):
    """A mean of the others would be best just where one went astray."""
    view = {"kind": "curves", "y": ["test.loss"], "series": ["N"], "facet": "|β|"}
    folder, points = fake_sweep(tmp_path, [0.8] * 18, figure=view)
    metrics = folder.run(points[0]).path / "metrics.jsonl"
    first, *rest = [json.loads(line) for line in metrics.read_text().splitlines()]
    first["test"]["loss"] = None
    metrics.write_text("".join(json.dumps(line) + "\n" for line in (first, *rest)))
    figure = figure_of(collect(folder.path))
    means = [one.y for one in figure.panels[0].series]
    assert [values[0] is None for values in means] == [True, False, False]
    assert all(value is not None for values in means for value in values[1:])
    assert figure.caption.endswith("gaps: a run has no value there")


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


def test_runs_of_other_examples_are_said(tmp_path):
    for seed in (0, 1):
        fake_ordinary_run(tmp_path / f"s{seed}", 0.5, (f"run.seed={seed}",))
        file = tmp_path / f"s{seed}/summary.json"
        file.write_text(
            json.dumps(json.loads(file.read_text()) | {"dataset": "own", "dataset_sha256": str(seed)})
        )
    (notice,) = report(tmp_path).notices
    assert "s1 was trained on other examples of the data set own than" in notice


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


def test_a_summary_of_another_configuration_is_left_out_by_name(tmp_path):
    fake_ordinary_run(tmp_path / "a", 0.5)
    fake_ordinary_run(tmp_path / "b", 0.6, ("run.seed=1",))
    (tmp_path / "a" / "config.toml").write_text(dump_config(load_config("quickstart", ("run.epochs=99",))))
    made = report(tmp_path)
    assert "a/summary.json does not match the config.toml next to it" in made.notices[0]
    assert made.record["runs"]["done"] == 1


@pytest.mark.parametrize(
    "text", [b"", b"\xff", b"[]", b"null", b"[3]", b"{}", b'[{"hash": "a"}]', b"[" * 100_000, None, "../out"]
)
def test_a_damaged_list_of_points_is_said(tmp_path, text):
    fake_sweep(tmp_path, [None] * 18)
    file = tmp_path / "points.json"
    if text is None:
        file.unlink()
    elif isinstance(text, str):
        records = json.loads(file.read_bytes())
        file.write_text(json.dumps([records[0] | {"folder": text}]))
    else:
        file.write_bytes(text)
    with pytest.raises(SweepError, match=r"points\.json"):
        report(tmp_path)


def test_points_of_another_definition_are_said(tmp_path):
    fake_sweep(tmp_path, [None] * 18)
    file = tmp_path / "points.json"
    file.write_text(file.read_text().replace('"N"', '"M"'))
    with pytest.raises(SweepError, match="do not belong to the same sweep"):
        report(tmp_path)


@pytest.mark.parametrize(
    "change", [{"seed": 7}, {"folder": "n-1-s0-1"}, {"hash": "0" * 12}], ids=lambda change: next(iter(change))
)
def test_a_point_that_is_not_of_the_sweep_is_said(tmp_path, change):
    fake_sweep(tmp_path, [0.8] * 18)
    file = tmp_path / "points.json"
    records = json.loads(file.read_bytes())
    file.write_text(json.dumps([records[0] | change, *records[1:]]))
    with pytest.raises(SweepError, match="do not belong to the same sweep"):
        report(tmp_path)


def test_a_summary_that_is_gone_is_said(tmp_path):
    folder, points = fake_sweep(tmp_path, [0.8] * 18)
    file = folder.run(points[0]).path / "summary.json"
    file.unlink()
    made = report(tmp_path)
    (notice,) = made.notices
    assert notice.startswith(
        f"{file} is missing, although the run was finished. To train it again, run: hep "
    )
    assert made.record["runs"] == {"done": 17, "running": 0, "waiting": 0, "failed": 1}
    assert made.record["cells"][0]["n"] == 2


def test_a_journal_that_is_damaged_takes_no_result(tmp_path):
    folder, points = fake_sweep(tmp_path, [0.8] * 17 + [None])
    whole = report(tmp_path)
    first, last = (folder.journal(point) for point in (points[0], points[-1]))
    first.latest().file.write_text("{")
    last.claim()
    last.latest().file.write_text('{"state": "clamed"}')
    made = report(tmp_path)
    assert made.record["cells"] == whole.record["cells"]
    assert made.notices == (
        f"{first.latest().file} is damaged; according to the other entries, the point is done.",
        f"{last.latest().file} is damaged; according to the other entries, the point is running.",
    )
    assert (folder.state(points[0]), folder.state(points[-1])) == ("done", "running")
    first.latest().file.unlink()
    assert report(tmp_path).record["cells"] == whole.record["cells"]


def test_a_summary_that_lacks_the_value_is_named(tmp_path):
    folder, points = fake_sweep(tmp_path, [0.8] * 18)
    file = folder.run(points[3]).path / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"test": {}}))
    with pytest.raises(ConfigError) as error:
        report(tmp_path)
    assert error.value.what == f'there is no value "test_error" in {file}.'
    assert "selected_test_error" in error.value.advice
    assert " test_error" not in error.value.advice


def test_a_line_that_lacks_the_value_is_named(tmp_path):
    view = {"kind": "curves", "series": ["N", "|β|"]}
    folder, points = fake_sweep(tmp_path, [0.8] * 18, figure=view)
    file = folder.run(points[3]).path / "metrics.jsonl"
    file.write_text(file.read_text().replace('"top1"', '"tap1"'))
    with pytest.raises(ConfigError, match=f'"test_error" in {re.escape(str(file))}'):
        report(tmp_path)


@pytest.mark.parametrize("line", [b'{"epoch": [1]}', b'{"epoch": 1, "test": 3}', b"{}", b"[" * 100_000])
def test_a_damaged_line_of_metrics_is_said(tmp_path, line):
    folder, points = fake_sweep(tmp_path, [0.8] + [None] * 17)
    (folder.run(points[0]).path / "metrics.jsonl").write_bytes(line + b"\n")
    with pytest.raises(OutputError, match="damaged at line 1"):
        report(tmp_path)


def test_a_figure_that_cannot_be_drawn_is_not_listed_and_no_old_one_stays(tmp_path, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("no font")

    fake_sweep(tmp_path, [0.8] * 18)
    assert tmp_path / "figure.png" in report(tmp_path).files
    monkeypatch.setattr("hepcli.experiments.sweeps.report.draw_figure", fail)
    made = report(tmp_path)
    assert [file.name for file in made.files] == [
        "table.csv",
        "table.json",
        "table.md",
        "table.tex",
        "runs.csv",
    ]
    assert not (tmp_path / "figure.png").exists()
    assert "no font" in made.notices[0]


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


def test_lines_join_points_in_the_order_of_their_values(tmp_path):
    axis = {"name": "N", "key": "gradient.num_points", "values": [4, 1, 2]}
    fake_sweep(tmp_path, [0.5] * 3 + [0.6] * 3 + [0.7] * 3, axis=[axis])
    (line,) = figure_of(collect(tmp_path)).panels[0].series
    assert (line.x, line.y) == ((1, 2, 4), (pytest.approx(40), pytest.approx(30), pytest.approx(50)))


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


def test_words_that_two_axes_share_are_two_series(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    axes = [
        {"name": "tied", "key": "network.tied", "values": [True, False]},
        {"name": "free", "key": "relaxation.solver", "values": ["alternating", "synchronous"]},
        {"name": "nudged", "key": "relaxation.nudged_solver", "values": ["alternating", "synchronous"]},
    ]
    view = {"kind": "curves", "x": "epoch", "y": ["test_error"], "series": ["tied", "free", "nudged"]}
    fake_sweep(tmp_path, [0.8] * 24, axis=axes, figure=view)
    report(tmp_path)
    labels = {line.get_label() for line in drawn[0].axes[0].get_lines()}
    assert len(labels) == 8
    assert "tied = true, free = alternating, nudged = synchronous" in labels


def test_a_line_a_run_with_all_its_numbers(tmp_path):
    _, points = fake_sweep(tmp_path, [0.8, 0.9, None] + [0.5] * 15)
    report(tmp_path)
    lines = list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines()))
    assert len(lines) == 17
    assert [line["folder"] for line in lines[:2]] == [points[0].folder, points[1].folder]
    own = [(line["|β|"], line["N"], line["seed"], float(line["test_error"])) for line in lines[:2]]
    assert own == [("0.05", "1", "0", pytest.approx(20)), ("0.05", "1", "1", pytest.approx(10))]
    assert float(lines[0]["test.loss"]) == 0.5


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


def test_what_cannot_be_compared_is_said_and_stays_in_the_table(tmp_path):
    fake_sweep(tmp_path, [0.5] * 3 + [0.6, None, None] + [None] * 3 + [None] * 9)
    made = report(tmp_path, against="N = 1")  # as the table shows it
    assert made.grids[1].rows[0] == ("0.05", "−10.00 (1/3)", "–")
    with pytest.raises(ConfigError, match="no other condition has a finished run with the same"):
        report(tmp_path, against="0.5")


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
