"""What a sweep looks like: a live table on a terminal, plain lines elsewhere, and its table at the end."""

from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hepcli.cli._display import duration
from hepcli.cli._stderr import StderrConsole, attempt, is_terminal, say
from hepcli.cli._tables import fits, number
from hepcli.experiments.figures.captions import in_words, shown_label, symbol_of
from hepcli.experiments.sweep import SweepEvent, SweepStarted
from hepcli.experiments.sweeps.collection import value_of
from hepcli.experiments.sweeps.plan import Plan
from hepcli.experiments.sweeps.report import Report
from hepcli.experiments.sweeps.tables import NO_RUN, Grid
from hepcli.experiments.sweeps.watch import PointSettled, SweepProgress

_STATES = ("done", "running", "waiting", "failed", "pruned")
_MOST_ROWS = 12


class SilentSweep:
    """Shows nothing but notices."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def notice(self, text: str) -> None:
        """A line the user must see."""
        say(text)

    def show(self, record: SweepEvent) -> None:
        """A record of the sweep's progress: only notices and failures are told."""
        if isinstance(record, SweepStarted):
            for text in record.notices:
                self.notice(text)
        if isinstance(record, PointSettled) and record.error is not None:
            self.notice(f"failed {record.point.title}: {record.error}")


class PlainSweep(SilentSweep):
    """A line for each point that is done or failed."""

    def __init__(self) -> None:
        self._settled = 0
        self._points = 0
        self._left: float | None = None

    def show(self, record: SweepEvent) -> None:
        """Print what has happened."""
        match record:
            case SweepStarted():
                self._points = record.num_points
                self.notice(f"sweep {record.folder}: {self._points} points")
            case SweepProgress():
                self._left = record.seconds_left
            case PointSettled():
                self._settled += 1
                if record.error is None:
                    left = "" if self._left is None else f", {duration(self._left)} left"
                    place = f"{self._settled}/{self._points}"
                    self.notice(f"{place} {_result(record)}{left}")
        super().show(record)


class LiveSweep(SilentSweep):
    """Counts, the time left, and the runs under way."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started: SweepStarted | None = None
        self._progress: SweepProgress | None = None
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self._render, transient=True)

    def __enter__(self) -> Self:
        attempt(self._live.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        attempt(self._live.stop)

    def notice(self, text: str) -> None:
        """A line above the table."""
        attempt(lambda: self._console.print(Text(text)))

    def show(self, record: SweepEvent) -> None:
        """Keep what the next frame is to show."""
        match record:
            case SweepStarted():
                self._started = record
            case SweepProgress():
                self._progress = record
            case PointSettled() if record.error is None:
                self.notice(_result(record))
        super().show(record)

    def _render(self) -> Group:
        if self._started is None or self._progress is None:
            return Group()
        points, left = self._progress.points, self._progress.seconds_left
        counts = Counter(one.status.state for one in points) + Counter(waiting=self._progress.to_come)
        parts = [f"{counts[state]} {state}" for state in _STATES if counts[state] or state != "pruned"]
        parts.append(f"time left {'–' if left is None else duration(left)}")
        table = Table(box=None, padding=(0, 1))
        table.add_column("running", no_wrap=True)
        table.add_column("epoch", justify="right", no_wrap=True)
        most = min(_MOST_ROWS, self._console.height - 5)
        for one in [one for one in points if one.status.state == "running"][: max(most, 0)]:
            table.add_row(Text(one.point.title), f"{one.status.epochs}/{one.epochs}")
        heading = Text(f"{self._started.folder}: {', '.join(parts)}", style="bold")
        return Group(heading, table) if table.row_count else Group(heading)


def _result(record: PointSettled) -> str:
    if record.summary is None:
        return f"pruned {record.point.title}"
    file = f"runs/{record.point.folder}/summary.json"
    name = "validation_error" if (record.summary.get("selection") or {}).get("validation") else "test_error"
    error = value_of(record.summary, name, file)
    return f"done {record.point.title}: {name.replace('_', ' ')} {number(error, '.2f')} %"


def make_display(*, quiet: bool) -> SilentSweep:
    """The display for where stderr goes."""
    console = StderrConsole()
    if quiet:
        return SilentSweep()
    return LiveSweep(console) if console.is_live else PlainSweep()


def show_plan(planned: Plan) -> None:
    """The points of a sweep on stderr, or the axes of a search."""
    if (search := planned.definition.search) is not None:
        title = (
            f"{planned.folder}: {search.trials} trials, sampler {search.sampler}, objective "
            f"{search.objective}"
        )
        _print(title, [_axes_table(planned)])
        return
    tables = [_plan_table(planned, with_folder=with_folder) for with_folder in (True, False)]
    _print(f"{planned.folder}: {len(planned.own)} points", tables)


def _axes_table(planned: Plan) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("axis", no_wrap=True)
    table.add_column("values", overflow="fold")
    for axis in planned.definition.axis:
        between = " to " if axis.bounds else ", "
        scale = " (log)" if axis.log else ""
        places = between.join(shown_label(place.label) for place in axis.places)
        table.add_row(Text(symbol_of(axis.name)), Text(places + scale))
    return table


def _plan_table(planned: Plan, *, with_folder: bool) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    names = list(planned.own[0].labels) if planned.own else []
    for name in names:
        table.add_column(Text(symbol_of(name)), overflow="fold", no_wrap=with_folder)
    for name in ("seed", *(["run folder"] if with_folder else [])):
        table.add_column(name, no_wrap=True)
    for point in planned.own:
        folder = [Text(point.folder)] if with_folder else []
        table.add_row(*map(Text, map(shown_label, point.labels.values())), str(point.seed), *folder)
    return table


def show_report(report: Report, *, quiet: bool = False) -> None:
    """The table of a sweep on stderr, unless `quiet`, and what the user should know of it."""
    if not quiet:
        for place, grid in enumerate(report.grids):
            if place:
                say("")
            _print(grid.title, _grids(grid), grid.note)
    for notice in report.notices:
        say(notice)


def _grids(grid: Grid) -> list[Table]:
    """The table as it is, and for terminals that are too narrow with a line for each cell."""
    whole = Table(box=None, padding=(0, 2, 0, 0))
    for place, name in enumerate(grid.header):
        whole.add_column(Text(name), justify="left" if place < grid.num_labels else "right", no_wrap=True)
    for row in grid.rows:
        whole.add_row(*map(Text, row))
    stacked = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    stacked.add_column("condition", overflow="fold")
    stacked.add_column("value", justify="right", no_wrap=True)
    labels, columns = grid.header[: grid.num_labels], grid.header[grid.num_labels :]
    for row in grid.rows:
        named = [in_words(name, label) for name, label in zip(labels, row, strict=False)]
        for column, cell in zip(columns, row[grid.num_labels :], strict=True):
            if cell != NO_RUN:
                condition = ", ".join([*named, *([column] if len(columns) > 1 else [])])
                stacked.add_row(Text(condition), Text(cell))
    return [whole, stacked]


def _print(title: str, tables: Sequence[Table], caption: str = "") -> None:
    """The first table that fits the terminal, else the last; off a terminal the first, as wide as it is."""
    console = StderrConsole()
    if not is_terminal():
        console = StderrConsole(width=1000)
    table = next((table for table in tables if fits(table, console)), tables[-1])
    lines = [Text(title, style="bold"), table, *([Text(caption)] if caption else [])]
    attempt(lambda: console.print(*lines, sep="\n"))
