"""Tables on stderr, whole whether or not there is a terminal."""

import io

from rich.console import Console
from rich.table import Table

from hepcli.cli._stderr import StderrConsole, attempt, is_terminal


def print_table(table: Table) -> None:
    """Print a table to stderr: fitted to a terminal that shows it whole, never cut anywhere."""
    console = StderrConsole()
    if not is_terminal() or not fits(table, console):
        # Rich assumes 80 columns where there is no terminal; cells would be broken apart or cut.
        console = StderrConsole(width=whole_width(table))
    attempt(lambda: console.print(table))


def fits(table: Table, console: Console) -> bool:
    """Whether a console shows a table whole."""
    return whole_width(table) <= console.width


def whole_width(table: Table) -> int:
    """Columns of a terminal that shows a table whole."""
    return Console(width=10_000, height=100, file=io.StringIO()).measure(table).maximum


def error_percent(accuracy: float | None) -> str:
    """The error in % of an accuracy from 0 to 1, as screens and figures show it; files keep accuracies."""
    return number(None if accuracy is None else 1 - accuracy, ".2f", 100)


def number(value: float | None, pattern: str = ".3f", scale: float = 1.0) -> str:
    """A number as text; what is undefined is a dash."""
    return "–" if value is None else format(scale * value, pattern)
