"""What a training run looks like on a terminal and in a pipe."""

import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from hepcli.cli._display import Clock, LiveTable, PlainLines, duration, make_display
from hepcli.cli._stderr import StderrConsole
from hepcli.cli._tables import whole_width
from hepcli.config import load_config
from hepcli.experiments.notices import epoch_notices
from hepcli.experiments.train import BatchDone, EpochDone, Finished, RunStarted


def metrics(epoch, nonfinite=0):
    split = {
        "loss": 0.5,
        "top1": 0.8125,
        "top5": None,
        "log10_residual": -5.4,
        "settled": 0.975,
        "unsettled_signal_share": 0.125,
    }
    split["nonfinite"] = nonfinite
    undefined = {"homeostatic_loss": None, "weight_angle_deg": None}
    return {"epoch": epoch, "train": split, "test": split, **undefined}


def show(display, epochs, nonfinite=0):
    with display:
        display.started(RunStarted(Path("runs/a[/b]c"), epochs, 0, (), ("Step 7 is damaged.",)))
        for epoch in range(1, epochs + 1):
            display.batch_done(BatchDone(epoch, 1, 2))
            display.batch_done(BatchDone(epoch, 2, 2))
            line = metrics(epoch, nonfinite)
            notices = epoch_notices(load_config("quickstart").config, line)
            display.epoch_done(EpochDone(line, 75.0, 1234.4, tuple(notices)))


def test_a_terminal_ends_with_a_row_for_every_epoch():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, height=10, _environ={})
    show(LiveTable(console), epochs=30)
    last_frame = screen.getvalue()[screen.getvalue().rindex("runs/a[/b]c") :]
    rows = [line.split()[0] for line in last_frame.splitlines() if "18.75" in line]
    assert rows == [str(epoch) for epoch in range(1, 31)]
    assert "1:15" in last_frame
    assert "97.5    12.5" in last_frame  # settled, and the share of the signal, in percent
    assert "–" in last_frame  # top-5 is undefined here, and says so


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_narrow_terminal_gets_fewer_columns_but_whole_numbers(width):
    screen = io.StringIO()
    show(LiveTable(Console(file=screen, force_terminal=True, width=width, height=20, _environ={})), epochs=2)
    last_frame = screen.getvalue()[screen.getvalue().rindex("epoch") :]
    table = last_frame.split("loss:")[0]
    assert "…" not in table
    assert ("homeo." in table) == (width >= 80)
    assert "18.75" in table


def test_non_finite_states_are_shown():
    screen = io.StringIO()
    show(LiveTable(Console(file=screen, force_terminal=True, width=100, _environ={})), 1, nonfinite=3)
    assert "3 train examples have non-finite states (NaN or infinity)" in screen.getvalue()


def test_a_pipe_gets_a_whole_line_an_epoch(capsys):
    show(PlainLines(), epochs=2, nonfinite=1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["Step 7 is damaged.", "run runs/a[/b]c: 2 epochs"]
    assert lines[5].startswith("epoch 2/2  loss 0.5000")
    assert "log10 residual -5.40  settled 97.5 %  unsettled share of signal 12.5 %" in lines[5]
    assert lines[7] == "epoch 2: 1 test examples have non-finite states (NaN or infinity)."


SCORES = {"top1": 0.8125}
SELECTIONS = {
    "latest": {"epoch": 2, "validation": None, "test": SCORES},
    "validation": {"epoch": 1, "validation": {"top1": 0.75}, "test": {"top1": 0.5}},
}


@pytest.mark.parametrize("by", SELECTIONS)
def test_the_end_says_how_it_went_and_what_comes_next(by, capsys):
    summary = {"epochs": 2, "test": SCORES, "selection": SELECTIONS[by]}
    PlainLines().finished(Finished(Path("runs/a b"), summary, ("A notice.",)))
    best = ["best epoch (1): 25.00 % validation error, 50.00 % test error"] if by == "validation" else []
    assert capsys.readouterr().err.splitlines() == [
        "A notice.",
        "last epoch (2): 18.75 % test error",
        *best,
        "next: hep eval 'runs/a b'",
        "      hep measure-asymmetry 'runs/a b'",
    ]


def test_the_clock_counts_the_whole_run(monkeypatch):
    now = iter([0.0, 10.0, 10.0, 40.0, 40.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    clock = Clock()
    assert clock.render(None).plain == "0:10"  # compiling
    clock.count(21, 100)  # resumed: 20 steps were done before
    clock.count(51, 100)
    assert clock.render(None).plain == "0:40, 0:49 left"


def test_durations():
    assert [duration(s) for s in (9.94, 75, 3725)] == ["9.9 s", "1:15", "1:02:05"]


def test_a_pipe_that_closes_ends_no_training(monkeypatch):
    def closed(*arguments, **options):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("typer.echo", closed)
    show(PlainLines(), epochs=2)


def test_a_dumb_terminal_gets_whole_tables_line_by_line(monkeypatch):
    """Rich takes it for 80 columns wide, whatever it is told, and changes nothing on it later."""
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    table = Table(*(f"column {place}" for place in range(20)))
    assert whole_width(table) > 200
    assert StderrConsole(width=200).width == 200
    assert isinstance(make_display(quiet=False), PlainLines)
