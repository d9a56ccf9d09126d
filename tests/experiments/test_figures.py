"""Figures: their data say everything, pictures are drawn from them alone, and nothing lies on a legend."""

import itertools
import json

import pytest

from hepcli.errors import OutputError
from hepcli.experiments.figures.data import (
    FigureData,
    Map,
    Panel,
    Scale,
    Series,
    data_file,
    numbers,
    read_data,
)
from hepcli.experiments.figures.drawing import compose, draw_figure, redraw
from hepcli.experiments.figures.style import FORMATS, house_style, look_of

LINES = tuple(
    Series(label=f"N = {n}", x=(1.0, 2.0, 3.0), y=(0.5 * n, None, 0.9), error=(0.1, None, None))
    for n in range(3)
)
FIGURE = FigureData(
    title="A $title$ with |β|",
    caption="Fashion-MNIST mini (5,000 training images); seed 0 " * 4,
    panels=(
        Panel(
            kind="points", x=Scale(label="N", ticks=(1.0, 2.0, 3.0)), y=Scale(include=(0.0,)), series=LINES
        ),
        Panel(kind="dots", x=Scale(ticks=(1.0, 2.0, 3.0), names=("l1", "l2", "out")), series=LINES),
        Panel(kind="bars", series=LINES),
        Panel(kind="curves", x=Scale(integer=True), series=LINES),
        Panel(
            kind="plane",
            series=(Series(x=(0.1, -0.2), y=(0.0, 0.3)),),
            circle=1.0,
            circle_label="stable inside the circle",
        ),
        Panel(
            kind="map",
            map=Map(axis=(-1.0, 0.0, 1.0), values=((None, -1.0, 0.0),) * 3, label="r", limits=(-8.0, 0.0)),
        ),
        Panel(kind="points", note="undefined"),
    ),
    columns=3,
)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_figure_is_redrawn_from_its_data_byte_for_byte(tmp_path, kind):
    draw_figure(FIGURE, tmp_path / f"figure.{kind}")
    data = read_data(data_file(tmp_path / f"figure.{kind}"))
    assert data == FIGURE
    redraw(data, tmp_path / f"again.{kind}")
    assert (tmp_path / f"again.{kind}").read_bytes() == (tmp_path / f"figure.{kind}").read_bytes()


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"title": "a", "panels": [{"kind": "pie"}], "columns": 1}']
)
def test_what_is_no_figure_is_said(tmp_path, text):
    (tmp_path / "a.figure.json").write_text(text)
    with pytest.raises(OutputError, match="is not a figure file"):
        read_data(tmp_path / "a.figure.json")


def test_data_of_figures_are_json_without_nan(tmp_path):
    series = Series(x=numbers([1, 2]), y=numbers([float("nan"), float("inf")]))
    draw_figure(
        FigureData(title="", panels=(Panel(kind="points", series=(series,)),), columns=1), tmp_path / "a.svg"
    )
    assert json.loads((tmp_path / "a.figure.json").read_text())["panels"][0]["series"][0]["y"] == [None, None]


def test_series_differ_in_more_than_colour():
    looks = [look_of(place) for place in range(8)]
    assert len({look.color for look in looks}) == len({look.marker for look in looks}) == len(looks)
    assert all(a.linestyle != b.linestyle for a, b in itertools.pairwise(looks))


def test_zero_stays_in_view_and_legends_hide_nothing():
    with house_style():
        high = tuple(Series(label=name, x=(1.0, 2.0), y=(90.0, 91.0)) for name in ("train", "test"))
        everywhere = tuple(
            Series(label=name, x=(0.0, 1.0, 2.0, 3.0), y=(0.0, 9.0, 0.0, 9.0)) for name in ("a", "b")
        )
        panels = (
            Panel(kind="points", y=Scale(include=(0.0,)), series=high),
            Panel(kind="curves", series=everywhere),
        )
        figure = compose(FigureData(title="", panels=panels, columns=2))
        figure.draw_without_rendering()
        for axes in figure.axes:
            box = axes.get_legend().get_window_extent()
            points = axes.transData.transform(axes.get_lines()[0].get_xydata())
            assert not any(box.contains(*point) for point in points)
        assert figure.axes[0].get_ylim()[0] <= 0


def test_error_bars_of_series_do_not_overlap():
    with house_style():
        figure = compose(FigureData(title="", panels=(FIGURE.panels[0],), columns=1))
        lines = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 3]
        assert len({float(line.get_xdata()[0]) for line in lines}) == 3


def test_places_without_a_bar_keep_their_names(tmp_path, monkeypatch):
    figures = []
    save = "hepcli.experiments.figures.drawing.save_figure"
    monkeypatch.setattr(save, lambda figure, file: figures.append(figure))
    series = Series(x=(1.0,), y=(2.0,))
    panel = Panel(kind="bars", x=Scale(ticks=(0.0, 1.0, 2.0), names=("a", "b", "c")), series=(series,))
    redraw(FigureData(title="", panels=(panel,), columns=1), tmp_path / "a.png")
    assert figures[0].axes[0].get_xlim() == (-0.5, 2.5)


def test_dots_show_all_places_although_a_series_has_nothing_there():
    first, second = (
        Series(label="a", x=(0.0,), y=(1.0,)),
        Series(label="b", x=(0.0, 1.0, 2.0), y=(1.0, 2.0, 3.0)),
    )
    scale = Scale(ticks=(0.0, 1.0, 2.0), names=("l1", "l2", "out"))
    panel = Panel(kind="dots", x=scale, series=(first, second))
    figure = compose(FigureData(title="", panels=(panel,), columns=1))
    assert figure.axes[0].get_xlim() == (-0.5, 2.5)
