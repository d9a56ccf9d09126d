"""The panels of a figure, each drawn by its kind."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepcli.experiments.figures.data import Map, Panel, Scale, Series, extent
from hepcli.experiments.figures.style import Look, look_of, plain

_PLAIN_RANGE = 100  # up to this ratio of its ends, a logarithmic axis has numbers at 1, 2 and 5
_FEW_NUMBERS = 10_000  # and up to this one at the powers of ten


def draw_panel(axes: Any, panel: Panel) -> None:
    """Draw a panel on its axes, or the note of why there is nothing in it."""
    if panel.title:
        axes.set_title(plain(panel.title))
    axes.set(xlabel=plain(panel.x.label), ylabel=plain(panel.y.label))
    if is_empty(panel):
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, panel.note, ha="center", va="center", transform=axes.transAxes, color="#666666")
        return
    if panel.kind in ("points", "dots", "bars", "curves"):
        _scale(axes, panel)  # before drawing: how far series are moved aside depends on it
    looks = [replace(one, look=place) if one.look is None else one for place, one in enumerate(panel.series)]
    shown = tuple(one for one in looks if panel.kind == "plane" or any(y is not None for y in one.y))
    _DRAWERS[panel.kind](axes, replace(panel, series=shown))
    if panel.reference is not None:
        axes.axhline(panel.reference, color="#888888", linewidth=0.7, zorder=0.5)


def is_empty(panel: Panel) -> bool:
    """Whether a panel has no value to show."""
    return panel.map is None and not any(value is not None for one in panel.series for value in one.y)


def _scale(axes: Any, panel: Panel) -> None:
    from matplotlib.ticker import MaxNLocator, NullLocator

    x, y = panel.x, panel.y
    axes.set(xscale="log" if x.log else "linear", yscale="log" if y.log else "linear")
    if x.ticks is not None:
        names = None if x.names is None else [plain(name) for name in x.names]
        long = names is not None and sum(map(len, names)) > 44
        axes.set_xticks(
            x.ticks,
            names or [f"{tick:g}" for tick in x.ticks],
            rotation=25 if long else 0,
            ha="right" if long else "center",
            rotation_mode="anchor",
        )
        axes.xaxis.set_minor_locator(NullLocator())
    elif x.integer:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    elif x.log:
        places = [value for one in panel.series for value in one.x if value]
        _plain_numbers(axes.xaxis, min(places, default=1.0), max(places, default=1.0))
    if y.ticks is not None:
        axes.set_yticks(y.ticks)
    shown = [value for one in panel.series for value in extent(one)]
    low, high = _limits(shown, y)
    if panel.kind == "bars" and not y.log and min(shown) >= 0:
        low = 0.0  # what bars stand on
    axes.set_ylim(low, high)
    if y.log and y.ticks is None:
        _plain_numbers(axes.yaxis, low, high)


def _plain_numbers(axis: Any, low: float, high: float) -> None:
    """Numbers instead of powers of ten along a logarithmic axis that spans few of them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    if high < _PLAIN_RANGE * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    elif high < _FEW_NUMBERS * low:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _limits(values: Sequence[float], scale: Scale) -> tuple[float, float]:
    """Room around the values; what stays in view is an edge where no value comes near."""
    if scale.log:
        positive = [value for value in (*values, *scale.include) if value > 0]
        low, high = (min(positive), max(positive)) if positive else (0.1, 1.0)
        factor = max((high / low) ** 0.06, 1.3)
        return low / factor, high * factor
    low, high = min([*values, *scale.include]), max([*values, *scale.include])
    room = 0.06 * (high - low) or 0.05 * max(abs(high), 1e-3)
    lower = low if low in scale.include and min(values) > low + room else low - room
    upper = high if high in scale.include and max(values) < high - room else high + room
    return lower, upper


def _array(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _look(series: Series) -> Look:
    return look_of(series.look or 0)  # `draw_panel` gives each its own


def _points(axes: Any, panel: Panel) -> None:
    """Lines through means with error bars, each series a little aside, so that no bar hides another."""
    for place, one in enumerate(panel.series):
        look = _look(one)
        x = _aside(panel, place, _array(one.x))
        y = _array(one.y)
        error = None if one.error is None else _array(one.error)
        style = {"color": look.color, "linestyle": look.linestyle, "marker": look.marker}
        axes.errorbar(x, y, yerr=error, label=plain(one.label) or None, capsize=2, elinewidth=0.8, **style)
        if one.settled is not None and not all(one.settled):
            rows = ~np.array(one.settled)
            axes.plot(x[rows], y[rows], look.marker, color=look.color, markerfacecolor="white", zorder=3)


def _aside(panel: Panel, place: int, x: NDArray[np.float64]) -> NDArray[np.float64]:
    if not any(one.error and any(one.error) for one in panel.series):
        return x
    places = sorted({value for one in panel.series for value in one.x if value is not None})
    if panel.x.log:
        gaps = np.diff(np.log(places))
        step = min(0.06, 0.3 / len(panel.series)) * (gaps.min() if gaps.size else 0.5)
        moved: NDArray[np.float64] = x * np.exp((place - (len(panel.series) - 1) / 2) * step)
        return moved
    gaps = np.diff(places)
    step = min(0.06, 0.3 / len(panel.series)) * (gaps.min() if gaps.size else 1.0)
    return x + (place - (len(panel.series) - 1) / 2) * step


def _dots(axes: Any, panel: Panel) -> None:
    """Means with error bars side by side, for values of which 0 is no natural bottom."""
    _show_all_places(axes, panel)
    width = 0.7 / len(panel.series)
    for place, one in enumerate(panel.series):
        look = _look(one)
        at = _array(one.x) + (place - (len(panel.series) - 1) / 2) * width
        error = None if one.error is None else _array(one.error)
        style = {"color": look.color, "marker": look.marker, "linestyle": "", "markersize": 5}
        axes.errorbar(
            at, _array(one.y), yerr=error, label=plain(one.label), capsize=2, elinewidth=0.9, **style
        )
    axes.grid(visible=False, axis="x")


def _show_all_places(axes: Any, panel: Panel) -> None:
    """The places along the bottom, also those of which a series has nothing."""
    if panel.x.ticks:
        axes.set_xlim(min(panel.x.ticks) - 0.5, max(panel.x.ticks) + 0.5)


def _bars(axes: Any, panel: Panel) -> None:
    _show_all_places(axes, panel)
    width = 0.8 / len(panel.series)
    for place, one in enumerate(panel.series):
        look = _look(one)
        at = _array(one.x) + (place - (len(panel.series) - 1) / 2) * width
        error = None if one.error is None else _array(one.error)
        axes.bar(
            at,
            _array(one.y),
            0.94 * width,
            yerr=error,
            capsize=2,
            label=plain(one.label) or None,
            color=look.color,
            hatch=look.hatch,
            edgecolor="white",
            linewidth=0,
            error_kw={"elinewidth": 0.9, "ecolor": "#222222"},
        )
    axes.grid(visible=False, axis="x")


def _curves(axes: Any, panel: Panel) -> None:
    """Lines with bands; markers a few along each line, at places of its own."""
    for place, one in enumerate(panel.series):
        look, x, y = _look(one), _array(one.x), _array(one.y)
        every = max(1, len(x) // 5)
        marks = (place * every // max(1, len(panel.series)), every)
        axes.plot(
            x,
            y,
            label=plain(one.label) or None,
            color=look.color,
            linestyle=look.linestyle,
            marker=look.marker,
            markersize=3.5,
            markevery=marks if len(x) > 5 else None,
        )
        if one.error is not None:
            error = _array(one.error)  # NaN, and so no band, where there is no spread
            axes.fill_between(x, y - error, y + error, color=look.color, alpha=0.18, linewidth=0)


def _plane(axes: Any, panel: Panel) -> None:
    """Points of the complex plane on equal axes, as close as they allow."""
    x = np.concatenate([_array(one.x) for one in panel.series])
    y = np.concatenate([_array(one.y) for one in panel.series])
    for one in panel.series:
        color = _look(one).color
        axes.plot(one.x, one.y, "o", markersize=2.2, markeredgewidth=0, alpha=0.6, color=color)
    axes.axhline(0, color="#888888", linewidth=0.5, zorder=0.5)
    if panel.circle:
        _circle(axes, panel, "#222222")
        x, y = np.append(x, [-panel.circle, panel.circle]), np.append(y, [-panel.circle, panel.circle])
    width = 1.12 * max(np.nanmax(x) - np.nanmin(x), 1e-6)
    height = max(2.24 * np.nanmax(np.abs(y)), 0.4 * width)
    middle = (np.nanmax(x) + np.nanmin(x)) / 2
    width = max(width, 0.6 * height)
    axes.set(xlim=(middle - width / 2, middle + width / 2), ylim=(-height / 2, height / 2), aspect="equal")


def _map(axes: Any, panel: Panel) -> None:
    values: Map = panel.map  # type: ignore[assignment]
    grid = np.array([_array(row) for row in values.values])
    low, high = values.limits
    image = axes.pcolormesh(
        values.axis,
        values.axis,
        grid,
        shading="nearest",
        cmap="viridis",
        vmin=low,
        vmax=high,
        rasterized=True,
    )
    axes.figure.colorbar(image, ax=axes, extend="both", label=values.label)
    axes.grid(visible=False)
    if panel.circle:
        _circle(axes, panel, "white")
    axes.set_aspect("equal")


def _circle(axes: Any, panel: Panel, color: str) -> None:
    from matplotlib.patheffects import withStroke

    circle = (panel.circle or 0.0) * np.exp(2j * np.pi * np.linspace(0, 1, 200))
    axes.plot(circle.real, circle.imag, color=color, linewidth=1, linestyle=(0, (4, 2)))
    if panel.circle_label:
        radius, edge = panel.circle or 0.0, axes.get_ylim()[1]
        inside = radius > 0.7 * edge  # a small circle has its label above it
        place: dict[str, Any] = {
            "color": color,
            "ha": "center",
            "va": "top" if inside else "bottom",
            "fontsize": 7,
        }
        if color == "white":  # the map below may be as bright
            place["path_effects"] = [withStroke(linewidth=1.5, foreground="#444444")]
        axes.text(0, 0.82 * radius if inside else radius + 0.03 * edge, panel.circle_label, **place)


_DRAWERS: dict[str, Callable[[Any, Panel], None]] = {
    "points": _points,
    "dots": _dots,
    "bars": _bars,
    "curves": _curves,
    "plane": _plane,
    "map": _map,
}
