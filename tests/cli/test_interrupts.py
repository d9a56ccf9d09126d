"""Ctrl-C before a command has begun its work."""

import signal
import subprocess
import sys

import pytest

# Ctrl-C in the middle of an import that calls it an ImportError, as jaxlib does.
IN_AN_IMPORT = """
class Finder:
    def find_spec(self, name, *_):
        if name == "jax":
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                raise ImportError("initialization failed")
sys.meta_path.insert(0, Finder())
"""
IN_BETWEEN = """
import typer
typer.echo = lambda *_, **__: os.kill(os.getpid(), signal.SIGINT)
"""


def hep(where, *arguments):
    code = f"import os, signal, sys\nfrom hepcli.__main__ import main\n{where}\nmain()"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_during_an_import_it_ends_the_command_at_once():
    assert hep(IN_AN_IMPORT, "eval", "nowhere") == (130, "Interrupted.\n")


def test_elsewhere_it_is_an_interrupt_as_ever():
    status, errors = hep(IN_BETWEEN, "--version")
    assert status == 130
    assert "Traceback" not in errors


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_what_else_ends_jobs_is_an_interrupt_too(name):
    """So that a progress bar gives the cursor back, and what was half written is cleared away."""
    status, errors = hep(IN_BETWEEN.replace("SIGINT", name), "--version")
    assert status == 130
    assert "Traceback" not in errors


def test_where_it_is_ignored_from_the_start_it_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        status, errors = hep(IN_AN_IMPORT, "eval", "nowhere")
    finally:
        signal.signal(signal.SIGINT, before)
    assert status == 1
    assert "nowhere does not exist" in errors


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_as_the_process_ends_there_is_nothing_to_interrupt(name):
    """No traceback out of what Python does last."""
    last = f"import atexit\natexit.register(lambda: os.kill(os.getpid(), signal.{name}))"
    status, errors = hep(last, "--version")
    assert (status, errors) == (-getattr(signal, name), "")
