"""What cannot be said ends no work: terminals that are gone, pipes that have closed, signals meanwhile."""

import errno
import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console

from hepcli.cli._display import LiveTable
from hepcli.cli._signals import stop_requests
from hepcli.cli._sweep_display import LiveSweep, PlainSweep
from hepcli.experiments.sweep import SweepStarted
from hepcli.experiments.train import RunStarted


class Gone(io.StringIO):
    """A terminal that was closed."""

    def write(self, text):
        raise OSError(errno.EIO, "Input/output error")


@pytest.fixture
def gone():
    return Console(file=Gone(), force_terminal=True, width=80, height=20, _environ={})


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of Rich's own thread
def test_a_terminal_that_is_gone_ends_neither_a_run_nor_a_sweep(gone):
    with LiveTable(gone) as table:
        table.notice("Interrupted: saving.")
        table.started(RunStarted(Path("run"), 1, 0, (), ("A notice.",)))
    with LiveSweep(gone) as live:
        live.notice("Interrupted: saving.")


def test_a_pipe_that_closes_ends_no_sweep(monkeypatch):
    def closed(*arguments, **options):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("typer.echo", closed)
    PlainSweep().show(SweepStarted(Path("sweep"), 0))


@pytest.mark.parametrize("error", [OSError(errno.EIO, "gone"), ValueError("I/O operation on closed file.")])
def test_a_request_to_stop_is_heard_though_it_cannot_be_acknowledged(error):
    def notify():
        raise error

    with stop_requests(notify) as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop()


def test_a_signal_while_the_display_is_locked_is_acknowledged_after_it():
    """The handler runs in the thread that holds the lock: waiting for it would never end."""
    lock, said = threading.Lock(), []

    def notify():
        with lock:
            said.append("saving")

    with stop_requests(notify) as stop:
        with lock:
            os.kill(os.getpid(), signal.SIGTERM)
            assert not said
        assert stop()
    assert said == ["saving"]


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_requests(lambda: None) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_closed_pipe_takes_neither_results_nor_status():
    """Rich would end the process, and Python would end with 120."""
    code = (
        "from hepcli.cli._stderr import StderrConsole, attempt, say\n"
        "attempt(lambda: StderrConsole().print('table'))\n"
        "say('a line')\n"
        "print('result')"
    )
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=writing, check=False)
    os.close(writing)
    assert (done.returncode, done.stdout) == (0, b"result\n")
