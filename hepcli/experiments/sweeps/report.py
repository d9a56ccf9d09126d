"""The report of a sweep: mean and spread over the seeds in every cell, as files and as records."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hepcli.config import OF_LAST_LINE
from hepcli.config.values import value_faults, value_names
from hepcli.errors import ConfigError, OutputError
from hepcli.experiments.figures.data import FigureData, data_file
from hepcli.experiments.figures.drawing import draw_figure
from hepcli.experiments.figures.style import FORMATS, FigureFormat, attempt
from hepcli.experiments.run_folder import RunFolder
from hepcli.experiments.sweeps.cells import Cell, cells_of, differences_from, place_of
from hepcli.experiments.sweeps.collect import collect
from hepcli.experiments.sweeps.collection import Collection, notes_of_training
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
from hepcli.experiments.sweeps.tables import (
    Grid,
    cells_csv,
    difference_grid,
    differences_csv,
    grid_of,
    latex,
    markdown,
    runs_csv,
)
from hepcli.files import legible

_TABLE = "table"
_RUNS = "runs.csv"
_DIFFERENCES = "differences.csv"
_OF_EARLIER_VERSIONS = ("table.csv", "table.md")  # whose records do not list their files
_FIGURE = "figure"
_MOST_TRIALS = 10


class Report(NamedTuple):
    """What `hep sweep` ends in.

    Attributes:
        folder: where the files lie.
        grids: the table, and that of the differences.
        record: what table.json holds, and --json prints.
        files: the files written.
        notices: what the user should know.
    """

    folder: Path
    grids: tuple[Grid, ...]
    record: dict[str, Any]
    files: tuple[Path, ...]
    notices: tuple[str, ...] = ()


def report(
    path: Path,
    value: str | None = None,
    figure_format: FigureFormat = "png",
    keys: Sequence[str] | None = None,
    against: str | None = None,
) -> Report:
    """Write the table (csv, json, md, tex), a line a run (runs.csv) and the figure from the runs in a folder.

    Args:
        path: a sweep folder, complete or not, or a folder of ordinary run folders.
        value: what to tabulate; None for what the sweep says. Another one has files of its own.
        figure_format: of the figure.
        keys: of a folder of ordinary runs, the keys to group by; None for those that tell the runs apart.
        against: a label, or AXIS=LABEL, from which all others' differences are tabulated, too.

    Returns:
        What was written.

    Raises:
        ConfigError: there are no runs in it, they lack the value of the table or figure, or there is no such
            label.
        OutputError: a file cannot be written, or the records of a run are damaged.
        SweepError: the list of points is damaged; or it is a search, and Optuna is not installed.
    """
    search = search_of(SweepFolder(path)) if SweepFolder(path).holds_sweep else None
    if search is not None and keys is None:
        for option, given in (("--value", value), ("--against", against)):
            if given is not None:
                raise ConfigError(
                    f"{option} cannot be used with a search, which is ranked by its objective.",
                    f"Leave out {option}.",
                )
        return _of_search(search, figure_format)
    result = collect(path, keys)
    stem = _TABLE
    if value is not None and value != result.table.value:
        _check_value(value)
        result = result._replace(table=result.table.model_copy(update={"value": value}))
        stem = f"{_TABLE}.{value}"  # the table that the sweep defines stays
    cells = cells_of(result, result.table.value)
    grids, record, more = [grid_of(result, cells)], _record(result, cells), {}
    if against is not None:
        place = place_of(result, against)
        found = differences_from(cells, place)
        grids.append(difference_grid(result, cells, found, place))
        more = {f"{stem}.{_DIFFERENCES}": differences_csv(result, found, place)}
        record["differences"] = {"against": place._asdict(), "of": [one._asdict() for one in found]}
    texts = {f"{stem}.csv": cells_csv(result, cells), f"{stem}.md": markdown(*grids)}
    texts |= {f"{stem}.tex": latex(*grids), **more, _RUNS: runs_csv(result)}
    files, notice = _write(path, stem, texts, record, figure_format, lambda: figure_of(result))
    return Report(path, tuple(grids), record, files, (*result.notices, *notice))


def _check_value(value: str) -> None:
    """Check a value that was asked for, before files are called after it.

    Raises:
        ConfigError: no run has it.
    """
    known = [*value_names(over_epochs=False), *(f"{table}.…" for table in OF_LAST_LINE)]
    for fault in value_faults("--value", [value]):
        raise ConfigError(f"{fault}.", f"Choose one of: {', '.join(known)}.")


def _of_search(search: Search, figure_format: FigureFormat) -> Report:
    """The report of a search: its trials from the best on, their history, and which axes mattered."""
    path, notices = search.folder.path, search.record()
    results = search.results()
    runs = [search.folder.run(point) for result in results for point in result.trial.points]
    notices += notes_of_training((run.path, run.read_summary()) for run in runs)
    ranked = ranking(search, results)
    record = search_record(search, results)
    rows = [search_row(place, result) for place, result in enumerate(ranked, 1)]
    title = f"{search.definition.sweep.title}: " if search.definition.sweep.title else ""
    which = "lowest" if search.settings.direction == "minimize" else "highest"
    grid = Grid(
        f"{title}search by {search.settings.sampler}, {which} first",
        search_header(search),
        tuple(rows),
        note=search_note(record),
    )
    texts = {"table.csv": search_csv(search, results), "table.md": markdown(grid), "table.tex": latex(grid)}
    figure = lambda: search_figure(search, results, record)  # noqa: E731
    files, notice = _write(path, _TABLE, texts, record, figure_format, figure)
    shown = grid._replace(rows=grid.rows[:_MOST_TRIALS])
    if len(rows) > _MOST_TRIALS:
        notices.append(f"Only the best {_MOST_TRIALS} of {len(rows)} trials are shown; see table.md for all.")
    return Report(path, (shown,), record, files, (*notices, *notice))


def _write(
    path: Path,
    stem: str,
    texts: Mapping[str, str],
    record: Mapping[str, Any],
    figure_format: FigureFormat,
    data: Callable[[], FigureData],
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Write the tables and the figure; the files, and what the user should know of the figure."""
    if not SweepFolder(path).holds_sweep:
        check_replaceable(path, stem)
    folder = RunFolder(path)
    with folder.writing():
        (path / f"{stem}.{_DIFFERENCES}").unlink(missing_ok=True)  # of an earlier report
        for name, text in texts.items():
            folder.write_text(name, text)
    figure = path / f"{_FIGURE}.{figure_format}"
    folder.write_json(f"{stem}.json", {**record, "files": [*texts, *(file.name for file in _figures(path))]})
    notice = attempt(lambda: draw_figure(data(), figure), figure.name)
    first, *others = texts
    files = tuple(path / name for name in (first, f"{stem}.json", *others))
    if notice is None:
        return (*files, figure), ()
    with folder.writing():  # what is there is of another state of the runs
        for file in _figures(path):
            file.unlink(missing_ok=True)
    return files, (notice,)


def check_replaceable(path: Path, stem: str = _TABLE) -> None:
    """Refuse to replace files of the user's own, which a folder that is no sweep may hold.

    Args:
        path: where a report, or a sweep, is to go.
        stem: how the names of its tables begin.

    Raises:
        OutputError: there are such files: of their names, but without a record of an earlier report.
    """
    kinds = ("csv", "json", "md", "tex", _DIFFERENCES)
    names = [path / f"{stem}.{kind}" for kind in kinds] + [path / _RUNS, *_figures(path)]
    ours = {name for file in path.glob(f"{_TABLE}*.json") for name in _written_with(file)}
    if strangers := [file for file in names if os.path.lexists(file) and file.name not in ours]:
        raise OutputError(
            f"{strangers[0]} was not written by an earlier report, and would be replaced.",
            "Move it away or rename it, then run the same command again.",
        )


def _figures(path: Path) -> list[Path]:
    """All files that the figure may be in."""
    figures = [path / f"{_FIGURE}.{kind}" for kind in FORMATS]
    return [*figures, data_file(figures[0])]


def _written_with(file: Path) -> list[str]:
    """The names of the files that a report wrote with a record, which this one may not be."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    if not (isinstance(record, dict) and {"title", "value", "cells"} <= record.keys()):
        return []
    listed = record.get("files", [*_OF_EARLIER_VERSIONS, *(own.name for own in _figures(file.parent))])
    return [file.name, *(listed if isinstance(listed, list) else [])]


def _record(result: Collection, cells: Sequence[Cell]) -> dict[str, Any]:
    states = [outcome.state for outcome in result.outcomes]
    return {
        "title": result.title,
        "value": result.table.value,
        "axes": result.axes,
        "runs": {state: states.count(state) for state in ("done", "running", "waiting", "failed")},
        "cells": [
            {"labels": cell.labels, "mean": cell.mean, "std": cell.std, "n": len(cell.values)}
            | {"runs": cell.runs, "failed": cell.failed}
            | {"values": {str(seed): value for seed, value in sorted(cell.values.items())}}
            for cell in cells
        ],
        "failed": [
            {"labels": outcome.labels, "seed": outcome.seed, "error": outcome.error}
            for outcome in result.outcomes
            if outcome.error is not None
        ],
    }


def as_json(result: Report) -> str:
    """The record of a report as one JSON object, with the files."""
    record: Mapping[str, Any] = result.record | {"files": [legible(str(file)) for file in result.files]}
    return json.dumps(record, indent=2, allow_nan=False)
