"""Runs that are shown together: what they came to, the values they are compared by, and how to show them."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hepcli.config import (
    ERRORS,
    LINE_ERRORS,
    OF_LAST_LINE,
    FigureKind,
    FigureView,
    SweepDefinition,
    TableView,
    flatten,
)
from hepcli.errors import ConfigError
from hepcli.experiments.figures.captions import is_number
from hepcli.experiments.run_files import SUMMARY_FILE
from hepcli.settings import MEASURES, did_you_mean

_TITLES: dict[str, str] = {
    "test_error": "test error / %",
    "selected_test_error": "test error, selected epoch / %",
    "validation_error": "validation error, selected epoch / %",
    "train_error": "training error / %",
    "weight_angle_deg": "weight angle / °",
    "homeostatic_loss": "homeostatic loss",
    "test.log10_residual": "log10 residual, test",
    "images_per_second": "images/s",
    "asymmetry.cosine.total": "error signal: cosine with rbp",
    "asymmetry.gradient_cosine": "gradient: cosine with bptt",
}


class Outcome(NamedTuple):
    """One run.

    Attributes:
        folder: of the run.
        labels: axis to label.
        seed: of the run.
        summary: of a finished run; None of one that is not.
        history: lines of its metrics.jsonl.
        state: `waiting`, `running`, `done` or `failed`.
        error: why it failed, else None.
    """

    folder: Path
    labels: dict[str, str]
    seed: int
    summary: dict[str, Any] | None
    history: list[dict[str, Any]]
    state: str
    error: str | None = None


class Collection(NamedTuple):
    """All runs of a folder, and how to show them.

    Attributes:
        title: above table and figure.
        axes: axis to its labels, both in order.
        outcomes: the runs.
        table: how to tabulate.
        figure: what to plot.
        notices: what the user should know of the runs.
        with_unfinished: whether curves show runs that are not finished beside those that are.
        unnamed: keys in which the runs differ beside the axes.
    """

    title: str
    axes: dict[str, list[str]]
    outcomes: list[Outcome]
    table: TableView
    figure: FigureView
    notices: tuple[str, ...] = ()
    with_unfinished: bool = False
    unnamed: tuple[str, ...] = ()


def value_title(name: str) -> str:
    """What to write at an axis of that value."""
    of_measures = {f"asymmetry.{key}": str(measure.title) for key, measure in MEASURES.items()}
    return (_TITLES | of_measures).get(name, name.replace("_", " ").replace(".", " "))


def value_of(record: Mapping[str, Any], name: str, file: str | Path) -> float | None:
    """Read a value of a summary, or of a line of metrics.jsonl.

    Args:
        record: the summary or line.
        name: a derived value, such as `test_error` in %, or a dotted key.
        file: where it was read, for the error.

    Returns:
        The number; None where it is undefined.

    Raises:
        ConfigError: there is no such number in it.
    """
    here: Any = record
    errors = LINE_ERRORS if "selection" not in record and "validation" in record else ERRORS
    for part in errors.get(name, name).split("."):
        if not isinstance(here, Mapping) or part not in here:
            raise _no_value(record, name, file)
        here = here[part]
    if here is None:
        return None
    if isinstance(here, bool) or not isinstance(here, int | float):
        raise _no_value(record, name, file)
    number = 100 * (1 - here) if name in ERRORS else float(here)
    return number if math.isfinite(number) else None


def value_in_summary(outcome: Outcome, name: str) -> float | None:
    """Read a value of the summary of a run; None where it is undefined, or the run is not finished."""
    if outcome.summary is None:
        return None
    last = outcome.history[-1] if outcome.history else {}  # older summaries have no tables of it
    summary = {name: last[name] for name in OF_LAST_LINE if name in last} | outcome.summary
    return value_of(summary, name, outcome.folder / SUMMARY_FILE)


def _no_value(record: Mapping[str, Any], name: str, file: str | Path) -> ConfigError:
    numbers = [key for key, value in flatten(record).items() if isinstance(value, int | float)]
    derived = [own for own, key in ERRORS.items() if key in numbers]
    known = [*derived, *numbers]
    hint = "" if name in ERRORS else did_you_mean(name, known)  # a name that is right, but lacks its data
    return ConfigError(
        f'there is no value "{name}" in {file}{hint or "."}',
        f"Choose one of: {', '.join(known)}.",
    )


def views(definition: SweepDefinition) -> tuple[TableView, FigureView]:
    """The views of a definition, or those that suit its axes."""
    table, figure = default_views(definition.labels)
    return definition.table or table, definition.figure or figure


def default_views(axes: Mapping[str, Sequence[str]]) -> tuple[TableView, FigureView]:
    """Rows down to the last axis, which goes across; the longest numeric axis along the bottom."""
    names = list(axes)
    columns = names[-1:] if len(names) > 1 else []
    rows = [name for name in names if name not in columns]
    numeric = [name for name in names if len(axes[name]) > 1 and all(map(is_number, axes[name]))]
    x = max(numeric, key=lambda name: len(axes[name]), default=names[0] if names else None)
    series = tuple(name for name in names if name != x)
    kind: FigureKind = "lines" if x in numeric else "bars"
    return TableView(rows=tuple(rows), columns=tuple(columns)), FigureView(kind=kind, x=x, series=series)


def notes_of_schedules(run: Path, summary: Mapping[str, Any] | None) -> list[str]:
    """What the user should know of a run that was prolonged, which its configuration does not tell."""
    earlier = (summary or {}).get("earlier_schedules")
    if not earlier:
        return []
    return [
        f"{run} was resumed with a different number of epochs, so its learning-rate schedule differs from "
        "that of an uninterrupted run of this length."
    ]


_NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")


def notes_of_training(summaries: Iterable[tuple[Path, Mapping[str, Any] | None]]) -> list[str]:
    """What runs said of themselves while they were trained; what differs in numbers only is told once.

    Args:
        summaries: folders of runs, and their summaries; None of those that are not finished.
    """
    said: dict[str, str] = {}
    runs: dict[str, set[Path]] = {}
    for run, summary in summaries:
        for text in (summary or {}).get("notices", ()):
            kind = _NUMBER.sub("", text)
            said.setdefault(kind, f"{run.name}: {text}")
            runs.setdefault(kind, set()).add(run)
    return [text + _of_others(len(runs[kind]) - 1) for kind, text in said.items()]


def _of_others(count: int) -> str:
    """That a notice is of other runs, too."""
    return f" The same is true of {count} other run{'' if count == 1 else 's'}." if count else ""
