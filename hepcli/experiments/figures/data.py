"""What a figure shows, apart from how it is drawn: the data that are saved beside it and redrawn from."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from hepcli.errors import OutputError
from hepcli.files import replacing

SUFFIX = ".figure.json"

Numbers = tuple[float | None, ...]
"""Numbers of a figure; None where one is undefined."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line, a group of bars, or a cloud of points.

    Attributes:
        label: in the legend; empty to stay out of it.
        x: places along the bottom.
        y: values.
        error: half the length of the error bars, or half the width of the band.
        settled: of each point, whether its marker is filled; None fills all.
        look: place in the house style; None for the place in the panel.
    """

    label: str = ""
    x: Numbers
    y: Numbers
    error: Numbers | None = None
    settled: tuple[bool, ...] | None = None
    look: int | None = None


def extent(series: Series) -> list[float]:
    """The values of a series, with both ends of their error bars."""
    errors = series.error or (None,) * len(series.y)
    pairs = [(y, e or 0.0) for y, e in zip(series.y, errors, strict=True) if y is not None]
    return [end for y, e in pairs for end in (y - e, y + e)]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """One axis of a panel.

    Attributes:
        label: with its unit.
        log: whether it is logarithmic.
        ticks: where the ticks are; None leaves it to Matplotlib.
        names: what stands at the ticks; None for the numbers.
        integer: whether ticks stand at integers only.
        include: numbers that stay in view, so that small differences look small.
    """

    label: str = ""
    log: bool = False
    ticks: tuple[float, ...] | None = None
    names: tuple[str, ...] | None = None
    integer: bool = False
    include: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Map:
    """Values over a square of the complex plane.

    Attributes:
        axis: real and imaginary parts.
        values: a row for each imaginary part, from the lowest up.
        label: of the values.
        limits: of the colours.
    """

    axis: tuple[float, ...]
    values: tuple[Numbers, ...]
    label: str
    limits: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes.

    Attributes:
        kind: `points` with error bars joined by lines, `dots` and `bars` side by side, `curves` with bands,
            `plane` for points of the complex plane, or `map`.
        title: above it.
        x: along the bottom.
        y: up the side.
        series: what is drawn.
        map: of a `map`.
        circle: radius of a circle around 0 in the complex plane.
        circle_label: in the legend.
        reference: height of a thin horizontal line.
        note: what stands in the panel where there is nothing to draw.
    """

    kind: Literal["points", "dots", "bars", "curves", "plane", "map"]
    title: str = ""
    x: Scale = field(default_factory=Scale)
    y: Scale = field(default_factory=Scale)
    series: tuple[Series, ...] = ()
    map: Map | None = None
    circle: float | None = None
    circle_label: str = ""
    reference: float | None = None
    note: str = "undefined"


@dataclass(frozen=True, kw_only=True)
class FigureData:
    """A figure.

    Attributes:
        title: what it shows.
        caption: data set, settings, number of examples and seeds.
        panels: row by row.
        columns: panels in a row.
        shared_legend: whether one legend below serves all panels.
    """

    title: str
    caption: str = ""
    panels: tuple[Panel, ...]
    columns: int
    shared_legend: bool = False


def data_file(figure: Path) -> Path:
    """Where the data of a figure are saved: beside it."""
    return figure.with_name(f"{figure.stem}{SUFFIX}")


def write_data(data: FigureData, figure: Path) -> None:
    """Save what a figure shows beside it."""
    with replacing(data_file(figure)) as temporary:
        temporary.write_text(json.dumps(asdict(data), allow_nan=False, ensure_ascii=False), encoding="utf-8")


def read_data(file: Path) -> FigureData:
    """Read what a figure shows.

    Args:
        file: ends in `.figure.json`.

    Returns:
        What `hepcli.experiments.figures.drawing.draw_figure` draws.

    Raises:
        OutputError: there is no such file, or it holds no figure.
    """
    try:
        data = _ADAPTER.validate_json(file.read_bytes())
    except OSError as error:
        raise OutputError(f"{file}: {error.strerror or error}.", "Check its name.") from error
    except ValidationError as error:
        raise OutputError(
            f"{file} is not a figure file, or is damaged.",
            f"Give a file ending in {SUFFIX}; hep saves one next to every figure.",
        ) from error
    if not data.panels:
        raise OutputError(f"{file} has no panels, so there is nothing to draw.", "Draw the figure anew.")
    return data


_ADAPTER: TypeAdapter[FigureData] = TypeAdapter(FigureData)


def numbers(values: Any) -> Numbers:
    """Numbers as a figure holds them: Python's own, None for what is not finite."""
    floats = [None if value is None else float(value) for value in values]
    return tuple(None if value is None or value - value != 0 else value for value in floats)
