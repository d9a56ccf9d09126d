"""The tables of a report, as text for people and for programs."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from hepcli.config import ERRORS, flatten
from hepcli.experiments.captions import assigned_symbol, number_text, shown_label, symbol_of, with_symbols
from hepcli.experiments.sweeps.cells import CONFIDENCE, Cell, Difference, Place, cells_beside
from hepcli.experiments.sweeps.collection import Collection, value_in_summary, value_title

NO_RUN = "–"
"""The text of a cell without runs."""
NOTE = "Mean ± sample standard deviation over seeds (number of seeds in brackets)."
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
    note: str = NOTE


def grid_of(result: Collection, cells: Sequence[Cell]) -> Grid:
    """The conditions, rows and columns as the table of the sweep says."""
    title, above = value_title(result.table.value), with_symbols(result.title)
    texts = {tuple(cell.labels.items()): _text(cell) for cell in cells}
    header, rows = _crossed(result, cells, texts, title)
    return Grid(f"{above}: {title}" if above else title, header, rows, len(result.table.rows))


def difference_grid(
    result: Collection, cells: Sequence[Cell], found: Sequence[Difference], place: Place
) -> Grid:
    """How far conditions are from one of them."""
    title = f"{value_title(result.table.value)}: difference from {assigned_symbol(*place)}"
    texts = {tuple(one.labels.items()): _difference_text(one) for one in found}
    header, rows = _crossed(result, cells_beside(cells, place), texts, value_title(result.table.value))
    note = (
        "Mean over the shared seeds (number of seeds in brackets) and its "
        f"{100 * CONFIDENCE:.0f} % confidence interval, paired by seed (paired t)."
    )
    return Grid(title, header, rows, len(result.table.rows), note)


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
    spread = "" if cell.std is None else f" ± {number_text(cell.std, cell.mean) if cell.std else 0}"
    count = f"{len(cell.values)}" if len(cell.values) == cell.runs else f"{len(cell.values)}/{cell.runs}"
    return f"{number_text(cell.mean, cell.mean)}{spread} ({count})"


def _difference_text(one: Difference) -> str:
    scale = max(map(abs, (one.mean, one.low or 0.0, one.high or 0.0)))
    mean, low, high = (
        None if value is None else number_text(value, scale).replace("-", "−")
        for value in (one.mean, one.low, one.high)
    )
    interval = "" if low is None else f", {low} to {high}"
    return f"{mean}{interval} ({len(one.seeds)})"


def cells_csv(result: Collection, cells: Sequence[Cell]) -> str:
    """A line a cell; what is undefined is empty."""
    value = result.table.value
    lines = (
        [*_places(result, cell.labels), value, _plain(cell.mean), _plain(cell.std), len(cell.values)]
        for cell in cells
    )
    return _csv([*result.axes, "value", "mean", "std", "n"], lines)


def differences_csv(result: Collection, found: Sequence[Difference], place: Place) -> str:
    """A line a difference; what is undefined is empty."""
    what = [result.table.value, place.label]
    lines = (
        [*_places(result, one.labels), *what, *map(_plain, (one.mean, one.low, one.high)), len(one.seeds)]
        for one in found
    )
    return _csv([*result.axes, "value", "against", "mean", "low", "high", "n"], lines)


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
    return _csv([*result.axes, "seed", "folder", *errors, *keys], lines)


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
