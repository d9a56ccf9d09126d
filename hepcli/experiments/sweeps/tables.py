"""The tables of a report, as text for people and for programs."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from hepcli.config import ERRORS, flatten
from hepcli.experiments.figures.captions import (
    assigned_symbol,
    number_format,
    shown_label,
    symbol_of,
    with_symbols,
)
from hepcli.experiments.sweeps.cells import CONFIDENCE, Cell, Difference, Place, cells_beside
from hepcli.experiments.sweeps.collection import Collection, value_in_summary, value_title

_FEW_SEEDS = 3
NO_RUN = "–"
"""The text of a cell without runs."""
_NOTE = "Mean ± sample standard deviation over seeds (number of seeds in brackets)."
_LATEX = {
    **{"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}"},
    **{sign: f"\\{sign}" for sign in "&%#_$"},
    **{"|β|": r"$|\beta|$", "β": r"$\beta$", "λ": r"$\lambda$", "α": r"$\alpha$", "°": r"$^\circ$"},
    **{"±": r"$\pm$", "−": "$-$", "–": "--", "…": r"\dots{}", "<": "$<$", ">": "$>$", "|": "$|$"},
    **{"^": r"\textasciicircum{}", "~": r"\textasciitilde{}"},
}
_SPECIAL = re.compile("|".join(map(re.escape, sorted(_LATEX, key=len, reverse=True))))


class Grid(NamedTuple):
    """A table as it is printed.

    Attributes:
        title: above it.
        header: names of the row axes, then a label for each column.
        rows: the same, as text; a cell is mean ± standard deviation (number of seeds).
        num_labels: how many of the columns name the row.
        note: below it.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_labels: int = 0
    note: str = ""


def grid_of(result: Collection, cells: Sequence[Cell]) -> Grid:
    """The conditions, rows and columns as the table of the sweep says."""
    title, above = value_title(result.table.value), with_symbols(result.title)
    texts = {tuple(cell.labels.items()): _text(cell) for cell in cells}
    header, rows = _crossed(result, cells, texts, title)
    note = " ".join([_NOTE, *_missing(cells)])
    return Grid(f"{above}: {title}" if above else title, header, rows, len(result.table.rows), note)


def difference_grid(
    result: Collection, cells: Sequence[Cell], found: Sequence[Difference], place: Place
) -> Grid:
    """How far conditions are from one of them."""
    of = value_title(result.table.value)
    title = f"{of.replace(' / %', ' in points')}: difference from {assigned_symbol(*place)}"
    texts = {tuple(one.labels.items()): _difference_text(one) for one in found}
    header, rows = _crossed(result, cells_beside(cells, place), texts, of)
    note = (
        "Mean over the shared seeds (number of seeds in brackets) and its "
        f"{100 * CONFIDENCE:.0f} % confidence interval, paired by seed (paired t), each by itself."
    )
    if any(1 < len(one.seeds) <= _FEW_SEEDS for one in found):
        note += " An interval of 2 or 3 seeds may be narrow by accident."
    return Grid(title, header, rows, len(result.table.rows), " ".join([note, *_missing(cells)]))


def _missing(cells: Sequence[Cell]) -> Iterator[str]:
    """What to say of runs that have no value."""
    if any(len(cell.values) < cell.runs for cell in cells):
        failed = sum(cell.failed for cell in cells)
        yield "a/b: a of b runs have a value" + (f"; {failed} failed." if failed else ".")


def _crossed(
    result: Collection, cells: Sequence[Cell], texts: dict[tuple[tuple[str, str], ...], str], title: str
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """The header and the rows of a table whose cells are texts."""
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

    def text(row: tuple[str, ...], column: tuple[str, ...]) -> str:
        cell = by_place.get((row, column))
        return NO_RUN if cell is None else texts.get(tuple(cell.labels.items()), NO_RUN)

    header = (*map(symbol_of, rows), *(name or title for name in named))
    lines = tuple((*map(shown_label, row), *(text(row, column) for column in across)) for row in down)
    return header, lines


def _text(cell: Cell) -> str:
    """A cell as text: never NaN, and never a spread of one seed."""
    if cell.mean is None:
        return f"– (0/{cell.runs})"
    form = number_format(cell.mean, cell.std)
    spread = "" if cell.std is None else f" ± {format(cell.std, form) if cell.std else 0}"
    count = f"{len(cell.values)}" if len(cell.values) == cell.runs else f"{len(cell.values)}/{cell.runs}"
    return f"{cell.mean:{form}}{spread} ({count})"


def _difference_text(one: Difference) -> str:
    size = max(map(abs, (one.mean, one.low or 0.0, one.high or 0.0)))
    form = number_format(size, None if one.high is None else one.high - one.mean)

    def text(value: float) -> str:
        return format(value, form).replace("-", "−")

    interval = "" if one.low is None or one.high is None else f", {text(one.low)} to {text(one.high)}"
    count = f"{len(one.seeds)}" if len(one.seeds) == one.runs else f"{len(one.seeds)}/{one.runs}"
    return f"{text(one.mean)}{interval} ({count})"


def cells_csv(result: Collection, cells: Sequence[Cell]) -> str:
    """A line a cell; what is undefined is empty."""
    value = result.table.value
    lines = (
        [*_places(result, cell.labels), value, *map(_plain, (cell.mean, cell.std)), *_counts(cell)]
        for cell in cells
    )
    return _csv(_header(result, "value", "mean", "std", "n", "runs", "failed"), lines)


def _counts(cell: Cell) -> tuple[int, int, int]:
    """Runs that have a value, all runs, and those that failed."""
    return len(cell.values), cell.runs, cell.failed


def differences_csv(result: Collection, found: Sequence[Difference], place: Place) -> str:
    """A line a difference; what is undefined is empty."""
    what = [result.table.value, place.label]
    lines = (
        [*_places(result, one.labels), *what, *map(_plain, (one.mean, one.low, one.high)), len(one.seeds)]
        for one in found
    )
    return _csv(_header(result, "value", "against", "mean", "low", "high", "n"), lines)


def runs_csv(result: Collection) -> str:
    """A line a finished run, with every number of its summary; what is undefined is empty."""
    outcomes = [outcome for outcome in result.outcomes if outcome.summary is not None]
    flat = [flatten(outcome.summary or {}) for outcome in outcomes]
    found = {key: None for own in flat for key, value in own.items() if isinstance(value, int | float)}
    keys = [key for key in found if key != "seed"]
    errors = {name: key for name, key in ERRORS.items() if key in found}
    lines = (
        [*_places(result, outcome.labels), outcome.seed, outcome.folder.name]
        + [
            "" if own.get(key) is None else _plain(value_in_summary(outcome, name))
            for name, key in errors.items()
        ]
        + [_plain(own.get(key)) for key in keys]
        for outcome, own in zip(outcomes, flat, strict=True)
    )
    return _csv(_header(result, "seed", "folder", *errors, *keys), lines)


def _header(result: Collection, *columns: str) -> list[str]:
    """Columns of the axes, then the others; no two of the same name."""
    return [*(f"{axis} (axis)" if axis in columns else axis for axis in result.axes), *columns]


def _places(result: Collection, labels: Mapping[str, str]) -> list[str]:
    return [labels[name] for name in result.axes]


def _plain(value: object) -> str:
    return "" if value is None else repr(value)


def _csv(header: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return text.getvalue()


def markdown(*grids: Grid) -> str:
    """Tables one below the other."""
    return "\n".join(map(_markdown, grids))


def _markdown(grid: Grid) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    lines = [grid.title, "", line(grid.header), "|" + "---|" * len(grid.header), *map(line, grid.rows)]
    return "\n".join([*lines, "", grid.note, ""])


def latex(*grids: Grid) -> str:
    """Tables for LaTeX, each a tabular of the package booktabs, with title and note as comments."""
    return "\n".join(map(_tabular, grids))


def _tabular(grid: Grid) -> str:
    columns = "l" * grid.num_labels + "r" * (len(grid.header) - grid.num_labels)
    comments = (f"% {' '.join(text.split())}" for text in (grid.title, grid.note))
    lines = [*comments, rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [_latex_line(grid.header), r"\midrule", *map(_latex_line, grid.rows), r"\bottomrule"]
    return "\n".join([*lines, r"\end{tabular}", ""])


def _latex_line(cells: Sequence[str]) -> str:
    line = " & ".join(map(latex_text, cells)) + r" \\"
    return "{}" + line if line.startswith(("[", "*")) else line  # which the rule above would take for its own


def latex_text(text: str) -> str:
    """Text for LaTeX."""
    return _SPECIAL.sub(lambda found: _LATEX[found[0]], text)
