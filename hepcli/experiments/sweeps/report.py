"""The report of a sweep: mean and spread over the seeds in every cell, as files and as records."""

import csv
import io
import json
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hepcli.errors import ConfigError, OutputError
from hepcli.experiments.captions import assigned_symbol, number_text, shown_label, symbol_of, with_symbols
from hepcli.experiments.drawing import draw_figure
from hepcli.experiments.figure_data import FigureData, data_file
from hepcli.experiments.figures import FORMATS, FigureFormat, attempt
from hepcli.experiments.run_folder import RunFolder
from hepcli.experiments.sweeps.collect import Collection, collect, value_in_summary, value_title
from hepcli.experiments.sweeps.figure import figure_of
from hepcli.experiments.sweeps.folder import SweepFolder
from hepcli.experiments.sweeps.search import Search, search_of
from hepcli.experiments.sweeps.search_views import (
    ranking,
    search_csv,
    search_figure,
    search_header,
    search_note,
    search_record,
    search_row,
)
from hepcli.files import legible

_TABLES = ("table.csv", "table.json", "table.md")
_FIGURE = "figure"
_MOST_TRIALS = 10
NO_RUN = "–"
"""The text of a cell without runs."""
NOTE = "Mean ± sample standard deviation over seeds (number of seeds in brackets)."


class Cell(NamedTuple):
    """One condition.

    Attributes:
        labels: axis to label.
        values: by seed, of the finished runs that have one.
        runs: number of runs, finished or not.
    """

    labels: dict[str, str]
    values: dict[int, float]
    runs: int

    @property
    def mean(self) -> float | None:
        """Mean over the seeds; None without any."""
        return statistics.fmean(self.values.values()) if self.values else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation over the seeds; None for fewer than two."""
        return statistics.stdev(self.values.values()) if len(self.values) > 1 else None


class Grid(NamedTuple):
    """The table as it is printed.

    Attributes:
        title: above it.
        header: names of the row axes, then a label for each column.
        rows: the same, as text; a cell is mean ± standard deviation (number of seeds).
        num_labels: how many of the columns name the row.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_labels: int = 0


class Report(NamedTuple):
    """What `hep sweep` ends in.

    Attributes:
        folder: where the files lie.
        grid: the table.
        record: what table.json holds, and --json prints.
        files: the files written.
        notices: what the user should know.
        note: below the table.
    """

    folder: Path
    grid: Grid
    record: dict[str, Any]
    files: tuple[Path, ...]
    notices: tuple[str, ...] = ()
    note: str = NOTE


def report(
    path: Path,
    value: str | None = None,
    figure_format: FigureFormat = "png",
    keys: Sequence[str] | None = None,
) -> Report:
    """Write table.csv, table.json, table.md and the figure with its data from the runs in a folder.

    Args:
        path: a sweep folder, complete or not, or a folder of ordinary run folders.
        value: what to tabulate; None for what the sweep says.
        figure_format: of the figure.
        keys: of a folder of ordinary runs, the keys to group by; None for those that tell the runs apart.

    Returns:
        What was written.

    Raises:
        ConfigError: there are no runs in it, or they lack the value of the table or figure.
        OutputError: a file cannot be written, or the records of a run are damaged.
        SweepError: the list of points is damaged; or it is a search, and Optuna is not installed.
    """
    search = search_of(SweepFolder(path)) if SweepFolder(path).holds_sweep else None
    if search is not None and keys is None:
        return _of_search(search, value, figure_format)
    result = collect(path, keys)
    if value is not None:
        result = result._replace(table=result.table.model_copy(update={"value": value}))
    cells = cells_of(result, result.table.value)
    grid, record = _grid(result, cells), _record(result, cells)
    texts = {"table.csv": _csv(result, cells), "table.md": _markdown(grid)}
    files, notice = _write(path, texts, record, figure_format, lambda: figure_of(result))
    return Report(path, grid, record, files, (*result.notices, *notice))


def _of_search(search: Search, value: str | None, figure_format: FigureFormat) -> Report:
    """The report of a search: its trials from the best on, their history, and which axes mattered."""
    if value is not None:
        raise ConfigError(
            "--value cannot be used with a search, which is ranked by its objective.", "Leave out --value."
        )
    path, notices = search.folder.path, search.record()
    results = search.results()
    ranked = ranking(search, results)
    record = search_record(search, results)
    rows = [search_row(place, result) for place, result in enumerate(ranked, 1)]
    title = f"{search.definition.sweep.title}: " if search.definition.sweep.title else ""
    which = "lowest" if search.settings.direction == "minimize" else "highest"
    grid = Grid(
        f"{title}search by {search.settings.sampler}, {which} first", search_header(search), tuple(rows)
    )
    texts = {"table.csv": search_csv(search, results), "table.md": _markdown(grid, search_note(record))}
    figure = lambda: search_figure(search, results, record)  # noqa: E731
    files, notice = _write(path, texts, record, figure_format, figure)
    shown = grid._replace(rows=grid.rows[:_MOST_TRIALS])
    if len(rows) > _MOST_TRIALS:
        notices.append(f"Only the best {_MOST_TRIALS} of {len(rows)} trials are shown; see table.md for all.")
    return Report(path, shown, record, files, (*notices, *notice), search_note(record))


def _write(
    path: Path,
    texts: Mapping[str, str],
    record: Mapping[str, Any],
    figure_format: FigureFormat,
    data: Callable[[], FigureData],
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Write the tables and the figure; the files, and what the user should know of the figure."""
    if not SweepFolder(path).holds_sweep:
        check_replaceable(path)
    folder = RunFolder(path)
    with folder.writing():
        for name, text in texts.items():
            folder.write_text(name, text)
    folder.write_json("table.json", record)
    figure = path / f"{_FIGURE}.{figure_format}"
    notice = attempt(lambda: draw_figure(data(), figure), figure.name)
    files = tuple(path / name for name in _TABLES)
    if notice is None:
        return (*files, figure), ()
    with folder.writing():  # what is there is of another state of the runs
        for file in (data_file(figure), *(path / f"{_FIGURE}.{kind}" for kind in FORMATS)):
            file.unlink(missing_ok=True)
    return files, (notice,)


def check_replaceable(path: Path) -> None:
    """Refuse to replace files of the user's own, which a folder that is no sweep may hold.

    Args:
        path: where a report, or a sweep, is to go.

    Raises:
        OutputError: there are such files: of their names, but without a record of an earlier report.
    """
    if _is_record(path / "table.json"):
        return
    figures = [path / f"{_FIGURE}.{kind}" for kind in FORMATS]
    names = [*(path / name for name in _TABLES), *figures, data_file(figures[0])]
    if strangers := [file for file in names if os.path.lexists(file)]:
        raise OutputError(
            f"{strangers[0]} was not written by an earlier report, and would be replaced.",
            "Move it away or rename it, then run the same command again.",
        )


def _is_record(file: Path) -> bool:
    """Whether a file holds what a report writes into table.json."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and {"title", "value", "cells"} <= record.keys()


def cells_of(result: Collection, value: str) -> list[Cell]:
    """The conditions in the order of the axes, with the values of their finished runs."""
    cells: dict[tuple[str, ...], Cell] = {}
    for outcome in result.outcomes:
        key = tuple(outcome.labels.values())
        cell = cells.setdefault(key, Cell(outcome.labels, {}, 0))
        number = value_in_summary(outcome, value)
        values = cell.values if number is None else cell.values | {outcome.seed: number}
        cells[key] = Cell(cell.labels, values, cell.runs + 1)
    order = {name: {label: at for at, label in enumerate(labels)} for name, labels in result.axes.items()}
    return sorted(cells.values(), key=lambda c: [order[name][label] for name, label in c.labels.items()])


def _text(cell: Cell | None) -> str:
    """A cell as text: never NaN, and never a spread of one seed."""
    if cell is None or cell.mean is None:
        return NO_RUN if cell is None else f"– (0/{cell.runs})"
    spread = "" if cell.std is None else f" ± {number_text(cell.std, cell.mean) if cell.std else 0}"
    count = f"{len(cell.values)}" if len(cell.values) == cell.runs else f"{len(cell.values)}/{cell.runs}"
    return f"{number_text(cell.mean, cell.mean)}{spread} ({count})"


def _grid(result: Collection, cells: Sequence[Cell]) -> Grid:
    rows, columns = result.table.rows, result.table.columns
    by_place = {
        (tuple(cell.labels[name] for name in rows), tuple(cell.labels[name] for name in columns)): cell
        for cell in cells
    }
    across = list(dict.fromkeys(place[1] for place in by_place))
    down = list(dict.fromkeys(place[0] for place in by_place))
    named = [
        ", ".join(assigned_symbol(n, label) for n, label in zip(columns, place, strict=True))
        for place in across
    ]
    title = value_title(result.table.value)
    header = (*map(symbol_of, rows), *(name or title for name in named))
    lines = tuple(
        (*map(shown_label, place), *(_text(by_place.get((place, column))) for column in across))
        for place in down
    )
    above = with_symbols(result.title)
    return Grid(f"{above}: {title}" if above else title, header, lines, len(rows))


def _record(result: Collection, cells: Sequence[Cell]) -> dict[str, Any]:
    states = [outcome.state for outcome in result.outcomes]
    return {
        "title": result.title,
        "value": result.table.value,
        "axes": result.axes,
        "runs": {state: states.count(state) for state in ("done", "running", "waiting", "failed")},
        "cells": [
            {"labels": cell.labels, "mean": cell.mean, "std": cell.std, "n": len(cell.values)}
            | {"values": {str(seed): value for seed, value in sorted(cell.values.items())}}
            for cell in cells
        ],
        "failed": [
            {"labels": outcome.labels, "seed": outcome.seed, "error": outcome.error}
            for outcome in result.outcomes
            if outcome.error is not None
        ],
    }


def _csv(result: Collection, cells: Sequence[Cell]) -> str:
    """A line a cell; what is undefined is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*result.axes, "value", "mean", "std", "n"])
    for cell in cells:
        place = [cell.labels[name] for name in result.axes]
        writer.writerow([*place, result.table.value, _plain(cell.mean), _plain(cell.std), len(cell.values)])
    return text.getvalue()


def _plain(value: float | None) -> str:
    return "" if value is None else repr(value)


def _markdown(grid: Grid, note: str = NOTE) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "|" + "---|" * len(grid.header)
    return "\n".join([f"{grid.title}", "", line(grid.header), rule, *map(line, grid.rows), "", note, ""])


def as_json(result: Report) -> str:
    """The record of a report as one JSON object, with the files."""
    record: Mapping[str, Any] = result.record | {"files": [legible(str(file)) for file in result.files]}
    return json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False)
