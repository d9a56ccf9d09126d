"""The figure of a sweep, as data: means over the seeds with their spread."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from hepcli.experiments.figures.captions import (
    IN_VIEW,
    RESIDUAL_SPAN,
    RIGHT_ANGLE,
    in_words,
    is_number,
    shown_label,
    symbol_of,
    with_symbols,
)
from hepcli.experiments.figures.data import FigureData, Panel, Scale, Series, extent, numbers
from hepcli.experiments.run_files import METRICS_FILE
from hepcli.experiments.sweeps.collection import Collection, Outcome, value_in_summary, value_of, value_title
from hepcli.experiments.sweeps.figure_runs import caption_of, lines_of, shown_runs

_IN_VIEW = {
    "test_error": IN_VIEW["error"],
    "selected_test_error": IN_VIEW["error"],
    "validation_error": IN_VIEW["error"],
    "train_error": IN_VIEW["error"],
    "test.loss": IN_VIEW["loss"],
    "train.loss": IN_VIEW["loss"],
    "homeostatic_loss": IN_VIEW["loss"],
    "weight_angle_deg": IN_VIEW["angle"],
    "asymmetry.jacobian_symmetry": IN_VIEW["symmetry"],
    "asymmetry.cosine.total": IN_VIEW["cosine"],
    "asymmetry.gradient_cosine": IN_VIEW["cosine"],
    "test.log10_residual": RESIDUAL_SPAN,
    "train.log10_residual": RESIDUAL_SPAN,
}
_MOST_COLUMNS = 3
_MOST_INSIDE = 4  # series of a legend inside a panel


def figure_of(result: Collection) -> FigureData:
    """The figure of a collection.

    Args:
        result: the runs and what to plot of them.

    Returns:
        Its data; panels of values that no run has are left out, if others are not.

    Raises:
        ConfigError: the runs lack a value that is to be plotted.
    """
    none_done = all(one.summary is None for one in result.outcomes)
    result = result._replace(with_unfinished=result.with_unfinished or none_done)
    facet = result.figure.facet
    drawn = [_DRAWERS[result.figure.kind](one) for one in _panels(result)]
    across = len(result.axes[facet]) if facet else min(len(drawn), _MOST_COLUMNS)
    rows = [drawn[start : start + across] for start in range(0, len(drawn), across)]
    if facet:  # a row goes as a whole, lest facets get out of line
        rows = [row for row in rows if any(_has_data(panel) for panel in row)] or rows[:1]
        rows = [_on_one_scale(row) for row in rows]
    else:
        rows = [[panel for row in rows for panel in row if _has_data(panel)] or rows[0][:1]]
    panels = tuple(panel for row in rows for panel in row)
    columns = across if facet else min(len(panels), 2 if len(panels) == 4 else _MOST_COLUMNS)
    title = with_symbols(result.title)
    many = len(panels) > 1 or len(panels[0].series) > _MOST_INSIDE
    gaps = "; gaps: a run has no value there" if any(map(_has_gap, panels)) else ""
    return FigureData(
        title=title, caption=caption_of(result) + gaps, panels=panels, columns=columns, shared_legend=many
    )


def _on_one_scale(row: Sequence[Panel]) -> list[Panel]:
    """Panels side by side that show one value, with the values of all of them in view."""
    ends = [end for panel in row for one in panel.series for end in extent(one)]
    if not ends:
        return list(row)
    return [
        replace(panel, y=replace(panel.y, include=(*panel.y.include, min(ends), max(ends)))) for panel in row
    ]


def _has_data(panel: Panel) -> bool:
    return any(map(_has_value, panel.series))


def _has_value(series: Series) -> bool:
    return any(value is not None for value in series.y)


def _has_gap(panel: Panel) -> bool:
    return any(value is None for one in panel.series for value in one.y)


class _Panel(NamedTuple):
    """One pair of axes: the runs and the value that it shows, and the place of each series in the whole."""

    result: Collection
    value: str
    places: Mapping[str, int]
    title: str = ""

    @property
    def note(self) -> str:
        """Why there is nothing in it."""
        there = any(outcome.summary or outcome.history for outcome in self.result.outcomes)
        if not there:
            return "no finished run"
        return "no layers connected both ways" if self.value == "weight_angle_deg" else "undefined"

    @property
    def y(self) -> Scale:
        """Its axis up the side."""
        ticks = RIGHT_ANGLE if self.value == "weight_angle_deg" else None
        is_curve = self.result.figure.kind == "curves"  # every epoch's, whichever counts in the end
        label = value_title(self.value)
        label = label.replace(", selected epoch", "") if is_curve else label
        return Scale(label=label, include=_IN_VIEW.get(self.value, ()), ticks=ticks)


def _panels(result: Collection) -> list[_Panel]:
    """A panel for each value, with a facet for each value and place on that axis, row by row."""
    facet, places = result.figure.facet, {name: n for n, name in enumerate(lines_of(result))}
    if facet is None:
        return [_Panel(result, value, places) for value in result.figure.y]
    parts = {
        label: result._replace(outcomes=[one for one in result.outcomes if one.labels[facet] == label])
        for label in result.axes[facet]
    }
    return [
        _Panel(part, value, places, in_words(facet, label) if row == 0 else "")
        for row, value in enumerate(result.figure.y)
        for label, part in parts.items()
    ]


class _Spread(NamedTuple):
    """Mean and sample standard deviation; None where there is none to show."""

    mean: float | None
    std: float | None


def _spread(values: Sequence[float | None]) -> _Spread:
    """None where a value is undefined: what a mean of the others would show is how the best runs do."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return _Spread(None, None)
    return _Spread(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None)


def _by_place(outcomes: Sequence[Outcome], axis: str | None, value: str) -> Mapping[str, list[float | None]]:
    """The values of the finished runs, by their label on the axis, where any run has one."""
    places: dict[str, list[float | None]] = {}
    for outcome in outcomes:
        if outcome.summary is not None:
            place = "" if axis is None else outcome.labels[axis]
            places.setdefault(place, []).append(value_in_summary(outcome, value))
    return {place: own for place, own in places.items() if any(number is not None for number in own)}


def _at_places(panel: _Panel, at: Mapping[str, float]) -> tuple[Series, ...]:
    """A series for each line, its points where the labels are."""
    series = []
    for name, outcomes in lines_of(panel.result).items():
        places = _by_place(outcomes, panel.result.figure.x, panel.value)
        there = [label for label in at if label in places]
        spreads = [_spread(places[label]) for label in there]
        series.append(
            Series(
                label=name,
                x=numbers(at[label] for label in there),
                y=numbers(spread.mean for spread in spreads),
                error=numbers(spread.std for spread in spreads),
                look=panel.places[name],
            )
        )
    return tuple(one for one in series if one.y)


def _labels(panel: _Panel) -> list[str]:
    return panel.result.axes.get(panel.result.figure.x or "", [""])


def _lines(panel: _Panel) -> Panel:
    labels = _labels(panel)
    at = {label: float(label) for label in labels if is_number(label)}
    least = min((value for value in at.values() if value > 0), default=float("inf"))
    has_zero = 0.0 in at.values() and max(at.values()) >= 10 * least
    if len(at) < len(labels) or (len(at) > 2 and has_zero):  # no logarithmic axis has a zero
        at = {label: float(place) for place, label in enumerate(labels)}
        names = tuple(shown_label(label) for label in labels)
        return _panel(panel, "dots", Scale(ticks=tuple(at.values()), names=names), _at_places(panel, at))
    is_log = min(at.values()) > 0 and max(at.values()) >= 10 * min(at.values())
    ticks = tuple(sorted(set(at.values()))) if len(at) <= 12 else None
    scale = Scale(log=is_log, ticks=ticks, integer=all(value.is_integer() for value in at.values()))
    in_order = dict(sorted(at.items(), key=lambda item: item[1]))
    return _panel(panel, "points", scale, _at_places(panel, in_order))


def _bars(panel: _Panel) -> Panel:
    at = {label: float(place) for place, label in enumerate(_labels(panel))}
    names = tuple(shown_label(label) for label in at)
    return _panel(panel, "bars", Scale(ticks=tuple(at.values()), names=names), _at_places(panel, at))


def _curves(panel: _Panel) -> Panel:
    """Over the epochs, with a band of one standard deviation around the mean of the runs that are shown.

    A line has a gap where one of them has no value.
    """
    series = []
    for name, every in lines_of(panel.result).items():
        outcomes = shown_runs(panel.result, every)
        by_epoch: dict[int, list[float | None]] = {}
        for file, line in ((one.folder / METRICS_FILE, line) for one in outcomes for line in one.history):
            by_epoch.setdefault(line["epoch"], []).append(value_of(line, panel.value, file))
        spreads = {epoch: _spread(by_epoch[epoch]) for epoch in sorted(by_epoch)}
        series.append(
            Series(
                label=name,
                x=numbers(spreads),
                y=numbers(spread.mean for spread in spreads.values()),
                error=numbers(spread.std for spread in spreads.values()),
                look=panel.places[name],
            )
        )
    return _panel(panel, "curves", Scale(integer=True), tuple(filter(_has_value, series)))


def _panel(panel: _Panel, kind: str, x: Scale, series: tuple[Series, ...]) -> Panel:
    label = "epoch" if kind == "curves" else symbol_of(panel.result.figure.x or "")
    x = Scale(label=label, log=x.log, ticks=x.ticks, names=x.names, integer=x.integer)
    return Panel(kind=kind, title=panel.title, x=x, y=panel.y, series=series, note=panel.note)  # type: ignore[arg-type]


_DRAWERS = {"lines": _lines, "bars": _bars, "curves": _curves}
