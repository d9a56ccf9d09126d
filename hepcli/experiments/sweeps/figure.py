"""The figure of a sweep: means over the seeds with their spread."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hepcli.experiments.figures import house_style, new_figure, plain, save_figure
from hepcli.experiments.run_folder import METRICS_FILE
from hepcli.experiments.sweeps.collect import (
    Collection,
    Outcome,
    is_number,
    value_in_summary,
    value_of,
    value_title,
)

_MARKERS = "osD^vP*X"
_LINE_STYLES, _COLOURS = ("-", "--", ":"), 10
_NAN = float("nan")


@house_style()
def draw(result: Collection, file: Path) -> None:
    """Draw the figure of a collection.

    Args:
        result: the runs and what to plot of them.
        file: to write, in the format of its suffix.

    Raises:
        ConfigError: the runs lack a value that is to be plotted.
    """
    panels = _panels(result)
    across = len(result.axes[result.figure.facet]) if result.figure.facet else min(len(panels), 2)
    down = -(-len(panels) // across)
    figure = new_figure(max(6.4, 4.8 * across), 1.2 + 3.2 * down, result.title, "large")
    all_axes = list(figure.subplots(down, across, squeeze=False).flat)
    for axes, panel in zip(all_axes, panels, strict=False):
        _DRAWERS[result.figure.kind](axes, panel)
        axes.set_ylabel(plain(value_title(panel.value)))
        axes.set_title(plain(panel.title), fontsize="medium")
        _finish(axes, panel)
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    _add_legend(figure)
    save_figure(figure, file)


class _Panel(NamedTuple):
    """One pair of axes: the runs and the value that it shows, and how each series looks in all of them."""

    result: Collection
    value: str
    looks: Mapping[str, "_Look"]
    title: str = ""


class _Look(NamedTuple):
    """Of a series: a colour of Matplotlib's cycle, and what tells the series apart beyond those."""

    color: str
    linestyle: str
    marker: str


def _looks(result: Collection) -> dict[str, _Look]:
    return {
        name: _Look(
            f"C{n % _COLOURS}",
            _LINE_STYLES[n // _COLOURS % len(_LINE_STYLES)],
            _MARKERS[n % len(_MARKERS)],
        )
        for n, name in enumerate(_series(result))
    }


def _panels(result: Collection) -> list[_Panel]:
    """A panel for each value, with a facet for each value and place on that axis, row by row."""
    facet, looks = result.figure.facet, _looks(result)
    if facet is None:
        return [_Panel(result, value, looks) for value in result.figure.y]
    parts = {
        label: result._replace(outcomes=[one for one in result.outcomes if one.labels[facet] == label])
        for label in result.axes[facet]
    }
    return [
        _Panel(part, value, looks, _name(facet, label) if row == 0 else "")
        for row, value in enumerate(result.figure.y)
        for label, part in parts.items()
    ]


def _add_legend(figure: Any) -> None:
    """One legend below all panels, which share their series."""
    shown = [axes.get_legend_handles_labels() for axes in figure.axes]
    by_label = {
        label: handle for handles, labels in shown for handle, label in zip(handles, labels, strict=True)
    }
    if len(by_label) > 1:
        columns = min(len(by_label), 4)
        figure.legend(
            by_label.values(), by_label, loc="outside lower center", ncols=columns, fontsize="small"
        )


def _finish(axes: Any, panel: _Panel) -> None:
    if not axes.has_data():
        there = any(outcome.summary or outcome.history for outcome in panel.result.outcomes)
        axes.text(
            0.5,
            0.5,
            "undefined" if there else "no finished run",
            ha="center",
            va="center",
            transform=axes.transAxes,
        )
    axes.grid(visible=True, alpha=0.3)
    axes.set_axisbelow(True)


def _name(axis: str, label: str) -> str:
    """What to call a place on an axis where the axis itself is not in sight."""
    return f"{axis} = {label}" if is_number(label) else label


def _series(result: Collection) -> dict[str, list[Outcome]]:
    """The runs of each line, named by the labels that they share."""
    lines: dict[str, list[Outcome]] = {}
    for outcome in result.outcomes:
        names = [_name(axis, outcome.labels[axis]) for axis in result.figure.series]
        lines.setdefault(", ".join(names), []).append(outcome)
    return lines


def _spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation; no bar where there is no spread to show."""
    if not values:
        return _NAN, _NAN
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def _by_place(outcomes: Sequence[Outcome], axis: str | None, value: str) -> Mapping[str, list[float]]:
    """The values of the finished runs, by their label on the axis."""
    places: dict[str, list[float]] = {}
    for outcome in outcomes:
        number = value_in_summary(outcome, value)
        if number is not None:
            places.setdefault("" if axis is None else outcome.labels[axis], []).append(number)
    return places


def _lines(axes: Any, panel: _Panel) -> None:
    result, value = panel.result, panel.value
    x = result.figure.x
    labels = result.axes.get(x or "", [""])
    numeric = all(map(is_number, labels))
    for name, outcomes in _series(result).items():
        places = _by_place(outcomes, x, value)
        there = [label for label in labels if label in places]
        if there:
            at = [float(label) if numeric else labels.index(label) for label in there]
            means, errors = zip(*(_spread(places[label]) for label in there), strict=True)
            look = panel.looks[name]
            axes.errorbar(
                at,
                means,
                yerr=errors,
                label=plain(name) or None,
                color=look.color,
                marker=look.marker,
                capsize=3,
            )
    if not numeric:
        axes.set_xticks(range(len(labels)), list(map(plain, labels)))
    axes.set_xlabel(plain(x or ""))


def _bars(axes: Any, panel: _Panel) -> None:
    result, value = panel.result, panel.value
    x = result.figure.x
    labels = result.axes.get(x or "", [""])
    series = _series(result)
    width = 0.8 / len(series)
    for index, (name, outcomes) in enumerate(series.items()):
        places = _by_place(outcomes, x, value)
        there = [label for label in labels if label in places]
        if there:
            at = [labels.index(label) + (index - (len(series) - 1) / 2) * width for label in there]
            means, errors = zip(*(_spread(places[label]) for label in there), strict=True)
            color = panel.looks[name].color
            axes.bar(at, means, width, yerr=errors, label=plain(name) or None, color=color, capsize=3)
    long = sum(map(len, labels)) > 60
    axes.set_xticks(
        range(len(labels)),
        list(map(plain, labels)),
        rotation=30 if long else 0,
        ha="right" if long else "center",
    )
    axes.set_xlabel(plain(x or ""))


def _curves(axes: Any, panel: _Panel) -> None:
    """Over the epochs, a band of one standard deviation around the mean of the seeds that got there."""
    from matplotlib.ticker import MaxNLocator

    for name, outcomes in _series(panel.result).items():
        by_epoch: dict[int, list[float]] = {}
        for file, line in ((one.folder / METRICS_FILE, line) for one in outcomes for line in one.history):
            number = value_of(line, panel.value, file)
            if number is not None:
                by_epoch.setdefault(line["epoch"], []).append(number)
        if by_epoch:
            epochs = sorted(by_epoch)
            pairs = [_spread(by_epoch[epoch]) for epoch in epochs]
            means = [mean for mean, _ in pairs]
            marker = "." if len(epochs) < 3 else ""
            look = panel.looks[name]
            axes.plot(
                epochs,
                means,
                label=plain(name) or None,
                marker=marker,
                color=look.color,
                linestyle=look.linestyle,
            )
            lower, upper = [m - s for m, s in pairs], [m + s for m, s in pairs]
            axes.fill_between(epochs, lower, upper, color=look.color, alpha=0.2, linewidth=0)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


_DRAWERS = {"lines": _lines, "bars": _bars, "curves": _curves}
