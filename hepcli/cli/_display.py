"""What a training run looks like: a live table on a terminal, a plain line an epoch elsewhere."""

import shlex
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from hepcli.cli._stderr import StderrConsole, attempt, say
from hepcli.cli._tables import error_percent, number, whole_width
from hepcli.experiments.train import BatchDone, EpochDone, Finished, RunStarted

_COLUMNS = (
    "epoch",
    "loss",
    "error",
    "top-5",
    "valid.",
    "resid.",
    "settled",
    "uns. e",
    "homeo.",
    "angle",
    "img/s",
    "time",
)
_FIRST_TO_GO = ("top-5", "homeo.", "resid.", "uns. e", "settled", "img/s", "angle")
"""Columns that a narrow terminal goes without, one after the other; numbers are never cut."""

_WIDTHS = {"time": 6, "img/s": 5, "settled": 5}  # room for later rows, so that no column goes as they come

_MEANING = {
    "loss": "training loss",
    "error": "test error, %",
    "top-5": "test top-5 error, %",
    "valid.": "validation error, %",
    "resid.": "mean log10 residual, test examples",
    "settled": "settled test examples, %",
    "uns. e": "share of the error signal from unsettled training examples, %",
    "homeo.": "homeostatic loss",
    "angle": "weight angle, °",
}
"""What the caption says of the columns that are shown."""


def duration(seconds: float) -> str:
    """Seconds as 12.3 s, 2:05 or 1:02:05."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return _clock(seconds)


def _clock(seconds: float) -> str:
    """Seconds as 0:12, 2:05 or 1:02:05: as long from one second to the next."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Silent:
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

    def started(self, record: RunStarted) -> None:
        """The run folder is ready."""
        for text in record.notices:
            self.notice(text)
        if 0 < record.epochs == record.epochs_done:
            done = "The only epoch is" if record.epochs == 1 else f"All {record.epochs} epochs are"
            self.notice(f"{done} done; --epochs N trains to N epochs in total.")

    def batch_done(self, record: BatchDone) -> None:
        """A step was dispatched."""

    def epoch_done(self, record: EpochDone) -> None:
        """An epoch was evaluated and recorded."""
        for text in record.notices:
            self.notice(text)

    def finished(self, record: Finished) -> None:
        """The run is over, and so is its display."""
        for text in record.notices:
            self.notice(text)


class Speaking(Silent):
    """Shows how a run ended, and what to do with it."""

    def finished(self, record: Finished) -> None:
        """Say the errors of the epochs that count, and the next commands."""
        super().finished(record)
        summary, selection = record.summary, record.summary["selection"]
        say(f"last epoch ({summary['epochs']}): {error_percent(summary['test']['top1'])} % test error")
        if selection["validation"] is not None:
            errors = [error_percent(selection[split]["top1"]) for split in ("validation", "test")]
            say(
                f"best epoch ({selection['epoch']}): {errors[0]} % validation error, {errors[1]} % test error"
            )
        words = shlex.quote(str(record.folder))
        if record.data_dir is not None:
            words += f" --data-dir {shlex.quote(str(record.data_dir))}"
        say(f"next: hep eval {words}\n      hep measure-asymmetry {words}")


class Clock(ProgressColumn):
    """How long the run has taken, and will take still at the speed since its first step here."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._done, self._total = 0, 0

    def count(self, done: int, total: int) -> None:
        """Note how many steps of the whole run are done."""
        self._done, self._total = done, total
        if self._first is None:
            self._first = time.monotonic(), done

    def render(self, task: Any) -> Text:
        """Such as 1:20, 32:10 left."""
        now = time.monotonic()
        spent = _clock(now - self._begun)
        if self._first is None or self._done == self._first[1]:
            return Text(spent)
        rate = (now - self._first[0]) / (self._done - self._first[1])
        return Text(f"{spent}, {_clock(rate * (self._total - self._done))} left")


class PlainLines(Speaking):
    """One line an epoch on stderr, for logs and pipes; never cut."""

    def started(self, record: RunStarted) -> None:
        """Say where the run goes and what it goes on from."""
        super().started(record)
        self._epochs = record.epochs
        behind = f", {record.epochs_done} done" if record.epochs_done else ""
        say(f"run {record.folder}: {record.epochs} epoch{'s' * (record.epochs != 1)}{behind}")

    def epoch_done(self, record: EpochDone) -> None:
        """Print the epoch's line."""
        metrics = record.metrics
        train, test = metrics["train"], metrics["test"]
        parts = [
            f"epoch {metrics['epoch']}/{self._epochs}",
            f"loss {number(train['loss'], '.4f')}",
            f"test loss {number(test['loss'], '.4f')}",
            f"test error {error_percent(test['top1'])} %",
            f"test top-5 error {error_percent(test['top5'])} %",
            *_validation(metrics),
            f"log10 residual {number(test['log10_residual'], '.2f')}",
            f"settled {number(test['settled'], '.1f', 100)} %",
            f"unsettled share of signal {number(train['unsettled_signal_share'], '.1f', 100)} %",
            f"homeostatic loss {number(metrics['homeostatic_loss'], '.3g')}",
            f"weight angle {number(metrics['weight_angle_deg'], '.1f')}°",
            f"{record.images_per_second:.0f} images/s",
            duration(record.seconds),
        ]
        say("  ".join(parts))
        super().epoch_done(record)


class LiveTable(Speaking):
    """A table with a row an epoch, and a bar of the epoch with the time that the run takes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rows: list[tuple[str, ...]] = []
        self._title = ""
        self._epochs = 0
        self._clock = Clock()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(None, "bright_black", "cyan", "cyan", "cyan"),
            MofNCompleteColumn(),
            self._clock,
            console=console,
            expand=True,
        )
        self._task = self._bar.add_task("compiling", total=None)
        self._epoch = 0
        self._over = False
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self._render)

    def __enter__(self) -> Self:
        attempt(self._live.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over = True
        self._live.vertical_overflow = "visible"  # the whole table stays in the scroll-back
        attempt(self._live.stop)

    def notice(self, text: str) -> None:
        """A line above the table."""
        attempt(lambda: self._console.print(Text(text)))

    def started(self, record: RunStarted) -> None:
        """Show the epochs behind us."""
        super().started(record)
        self._title, self._epochs = str(record.folder), record.epochs
        for metrics in record.history:
            self._rows.append(self._row(metrics, None))

    def batch_done(self, record: BatchDone) -> None:
        """Move the bar."""
        if record.epoch != self._epoch:
            self._epoch = record.epoch
            self._bar.reset(self._task, total=record.num_batches, completed=record.batch - 1)
        behind = (record.epoch - 1) * record.num_batches
        self._clock.count(behind + record.batch, self._epochs * record.num_batches)
        text = "evaluating" if record.batch == record.num_batches else f"epoch {record.epoch}/{self._epochs}"
        self._bar.update(self._task, completed=record.batch, description=text)

    def epoch_done(self, record: EpochDone) -> None:
        """Add the epoch's row."""
        self._rows.append(self._row(record.metrics, record))
        super().epoch_done(record)

    def _row(self, metrics: dict[str, Any], record: EpochDone | None) -> tuple[str, ...]:
        train, test = metrics["train"], metrics["test"]
        return (
            str(metrics["epoch"]),
            number(train["loss"]),
            error_percent(test["top1"]),
            error_percent(test["top5"]),
            error_percent(metrics["validation"]["top1"]) if "validation" in metrics else "",
            number(test["log10_residual"], ".1f"),
            number(test["settled"], ".1f", 100),
            number(train.get("unsettled_signal_share"), ".1f", 100),
            number(metrics["homeostatic_loss"], ".2g"),
            number(metrics["weight_angle_deg"], ".1f"),
            f"{record.images_per_second:.0f}" if record else "",
            duration(record.seconds) if record else "",
        )

    def _table(self, rows: list[tuple[str, ...]]) -> tuple[Table, Text]:
        """The table with as many columns as the terminal has room for, and its caption."""
        place = _COLUMNS.index("valid.")
        left = [name for name in _COLUMNS if name != "valid." or any(row[place] for row in rows)]
        for gone in (None, *_FIRST_TO_GO):
            left = [name for name in left if name != gone]
            table = Table(title=Text(self._title), box=None, padding=(0, 0, 0, 2), pad_edge=False)
            for name in left:
                table.add_column(name, justify="right", no_wrap=True, min_width=_WIDTHS.get(name))
            for row in rows:
                table.add_row(*(cell for name, cell in zip(_COLUMNS, row, strict=True) if name in left))
            if whole_width(table) <= self._console.width:
                break
        caption = "; ".join(f"{name}: {_MEANING[name]}" for name in left if name in _MEANING)
        return table, Text(caption)

    def _render(self) -> Group:
        if self._over:
            return Group(*self._table(self._rows)) if self._rows else Group()
        room = max(3, self._console.height - 10)  # title, header, bar and caption
        table, caption = self._table(self._rows[-room:])
        return Group(table, self._bar, caption)


def _validation(metrics: dict[str, Any]) -> list[str]:
    """Error on the validation examples, where there are any."""
    if "validation" not in metrics:
        return []
    return [f"validation error {error_percent(metrics['validation']['top1'])} %"]


def make_display(*, quiet: bool) -> Silent:
    """The display for where stderr goes."""
    console = StderrConsole()
    if quiet:
        return Silent()
    return LiveTable(console) if console.is_live else PlainLines()
