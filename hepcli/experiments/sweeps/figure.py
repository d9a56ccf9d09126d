"""The figure of a sweep: means over the seeds with their spread."""

import statistics
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from hepcli.experiments.sweeps.collect import Collection, Outcome, is_number, value_of, value_title

_MARKERS = "osD^vP*X"
_NAN = float("nan")


def draw(found: Collection, file: Path) -> None:
    """Draw the figure of a collection as a PNG.

    Args:
        found: the runs and what to plot of them.
        file: the PNG to write.

    Raises:
        ConfigError: the runs lack a value that is to be plotted.
    """
    from matplotlib.figure import Figure

    panels = found.figure.y
    across = min(len(panels), 2)
    down = -(-len(panels) // across)
    figure = Figure(figsize=(max(6.4, 4.8 * across), 1.2 + 3.2 * down), layout="constrained")
    if found.title:
        figure.suptitle(found.title)
    all_axes = figure.subplots(down, across, squeeze=False).flat
    for axes, value in zip(all_axes, panels, strict=False):
        _DRAWERS[found.figure.kind](axes, found, value)
        axes.set_ylabel(value_title(value))
        _finish(axes)
    for axes in list(all_axes)[len(panels) :]:
        axes.set_visible(False)
    figure.savefig(file, dpi=120, format="png")


def _finish(axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if not axes.has_data():
        axes.text(0.5, 0.5, "no finished run", ha="center", va="center", transform=axes.transAxes)
    elif any(labels) and len(handles) > 1:
        axes.legend(fontsize="small")
    axes.grid(visible=True, alpha=0.3)
    axes.set_axisbelow(True)


def _series(found: Collection) -> dict[str, list[Outcome]]:
    """The runs of each line, named by the labels that they share."""
    lines: dict[str, list[Outcome]] = {}
    for outcome in found.outcomes:
        names = [f"{axis} = {outcome.labels[axis]}" for axis in found.figure.series]
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
        number = None if outcome.summary is None else value_of(outcome.summary, value)
        if number is not None:
            places.setdefault("" if axis is None else outcome.labels[axis], []).append(number)
    return places


def _lines(axes: Any, found: Collection, value: str) -> None:
    x = found.figure.x
    labels = found.axes.get(x or "", [""])
    numeric = all(map(is_number, labels))
    for (name, outcomes), marker in zip(_series(found).items(), cycle(_MARKERS), strict=False):
        places = _by_place(outcomes, x, value)
        there = [label for label in labels if label in places]
        if there:
            at = [float(label) if numeric else labels.index(label) for label in there]
            means, errors = zip(*(_spread(places[label]) for label in there), strict=True)
            axes.errorbar(at, means, yerr=errors, label=name or None, marker=marker, capsize=3)
    if not numeric:
        axes.set_xticks(range(len(labels)), labels)
    axes.set_xlabel(x or "")


def _bars(axes: Any, found: Collection, value: str) -> None:
    x = found.figure.x
    labels = found.axes.get(x or "", [""])
    series = _series(found)
    width = 0.8 / len(series)
    for index, (name, outcomes) in enumerate(series.items()):
        places = _by_place(outcomes, x, value)
        there = [label for label in labels if label in places]
        if there:
            at = [labels.index(label) + (index - (len(series) - 1) / 2) * width for label in there]
            means, errors = zip(*(_spread(places[label]) for label in there), strict=True)
            axes.bar(at, means, width, yerr=errors, label=name or None, capsize=3)
    long = sum(map(len, labels)) > 60
    axes.set_xticks(range(len(labels)), labels, rotation=30 if long else 0, ha="right" if long else "center")
    axes.set_xlabel(x or "")


def _curves(axes: Any, found: Collection, value: str) -> None:
    """Over the epochs, a band of one standard deviation around the mean of the seeds that got there."""
    from matplotlib.ticker import MaxNLocator

    for name, outcomes in _series(found).items():
        by_epoch: dict[int, list[float]] = {}
        for line in (line for outcome in outcomes for line in outcome.history):
            number = value_of(line, value)
            if number is not None:
                by_epoch.setdefault(line["epoch"], []).append(number)
        if by_epoch:
            epochs = sorted(by_epoch)
            pairs = [_spread(by_epoch[epoch]) for epoch in epochs]
            means = [mean for mean, _ in pairs]
            marker = "." if len(epochs) < 3 else ""
            (drawn,) = axes.plot(epochs, means, label=name or None, marker=marker)
            lower, upper = [m - s for m, s in pairs], [m + s for m, s in pairs]
            axes.fill_between(epochs, lower, upper, color=drawn.get_color(), alpha=0.2, linewidth=0)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


_DRAWERS = {"lines": _lines, "bars": _bars, "curves": _curves}
