"""Figures of sweeps: what lines, bars and curves show."""

import json

import pytest

from hepcli.experiments.figures.drawing import draw_figure
from hepcli.experiments.sweeps.collect import collect
from hepcli.experiments.sweeps.figure import figure_of
from hepcli.experiments.sweeps.report import report

from .fakes import fake_sweep


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


@pytest.mark.parametrize("kind", ["bars", "lines"])
def test_no_mean_is_shown_where_a_run_has_no_value(tmp_path, kind):
    view = {"kind": kind, "x": "N", "y": ["test.loss"], "series": ["|β|"]}
    folder, points = fake_sweep(tmp_path, [0.8] * 18, figure=view)
    file = folder.run(points[0]).path / "summary.json"
    summary = json.loads(file.read_text())
    summary["test"]["loss"] = None
    file.write_text(json.dumps(summary))
    figure = figure_of(collect(folder.path))
    (panel,) = figure.panels
    assert [[value is None for value in one.y] for one in panel.series] == [[True, False, False], [False] * 3]
    assert figure.caption.endswith("gaps: a run has no value there")
    draw_figure(figure, tmp_path / "figure.png")


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


def test_lines_join_points_in_the_order_of_their_values(tmp_path):
    axis = {"name": "N", "key": "gradient.num_points", "values": [4, 1, 2]}
    fake_sweep(tmp_path, [0.5] * 3 + [0.6] * 3 + [0.7] * 3, axis=[axis])
    (line,) = figure_of(collect(tmp_path)).panels[0].series
    assert (line.x, line.y) == ((1, 2, 4), (pytest.approx(40), pytest.approx(30), pytest.approx(50)))


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
