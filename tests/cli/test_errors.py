"""How errors of the device reach the user."""

import os
from pathlib import Path

import jax
import pytest
import typer

from hepcli.cli import app
from hepcli.cli._errors import handle_errors
from hepcli.cli._options import user_path
from hepcli.errors import DivergenceError


def raising(error):
    @handle_errors
    def command():
        raise error

    return command


def test_a_device_without_memory_says_what_to_lower(capsys):
    text = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 12884901888 bytes.\nBufferAssignment …"
    with pytest.raises(typer.Exit) as ended:
        raising(jax.errors.JaxRuntimeError(text))()
    assert ended.value.exit_code == 1
    shown = capsys.readouterr().err
    assert "out of memory: 12.0 GiB were requested at once" in shown
    assert "data.accumulate" in shown
    assert "free_precision" in shown
    assert "BufferAssignment" not in shown


def test_memory_that_ends_in_the_middle_of_a_program_is_said_too(capsys):
    text = "INTERNAL: Error dispatching computation: Out of memory allocating 4294967296 bytes."
    with pytest.raises(typer.Exit):
        raising(jax.errors.JaxRuntimeError(text))()
    assert "out of memory: 4.0 GiB were requested at once" in capsys.readouterr().err


def test_other_errors_of_the_device_keep_their_traceback():
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        raising(jax.errors.JaxRuntimeError("INTERNAL: a bug"))()


def test_what_the_system_refuses_is_said_in_words(capsys):
    with pytest.raises(typer.Exit) as ended:
        raising(PermissionError(13, "Permission denied", "/private/run"))()
    assert ended.value.exit_code == 1
    assert "/private/run: Permission denied." in capsys.readouterr().err
    with pytest.raises(typer.Exit):
        raising(OSError(36, "File name too long", "x" * 300))()
    assert "File name too long" in capsys.readouterr().err


def test_debug_shows_where_it_was_needed(monkeypatch):
    monkeypatch.setenv("HEP_DEBUG", "1")
    with pytest.raises(PermissionError):
        raising(PermissionError(13, "Permission denied", "/private/run"))()


def test_paths_are_what_a_user_means(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert user_path("~/run") == Path("/home/me/run")
    assert user_path("run [1]") == Path("run [1]")
    for wrong in ("", "~nosuchuser/x"):
        with pytest.raises(typer.BadParameter):
            user_path(wrong)


@pytest.mark.parametrize("words", ["--out --resume", "--set a.b=1 --epochs --seed=2", "--preset --help"])
def test_no_option_is_the_value_of_another(words):
    """A shell variable was empty: `hep train --out $OUT --resume` made a folder named --resume."""
    train = typer.main.get_command(app).commands["train"]
    with pytest.raises(Exception, match="needs a value, but"):
        train.make_context("train", words.split())
    train.make_context("train", words.split(), resilient_parsing=True)  # for completion
    train.make_context("train", ["--out=--resume", "--set", "--x=1", "--epochs", "2"])


def test_what_went_wrong_besides_is_shown_too(capsys):
    error = DivergenceError(
        "The loss of step 9 is nan: training has diverged.", "Lower optimizer.learning_rate."
    )
    error.add_note("Step 5 could not be saved in runs/x: No space left on device.")
    with pytest.raises(typer.Exit):
        raising(error)()
    shown = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0].strip() for line in shown] == ["error", "also", "try"]
    assert "No space left on device" in shown[1]


@pytest.mark.parametrize(("times", "parts"), [(1.5, 2), (3.5, 4), (7.1, 8), (0.1, 4)])
def test_a_step_that_needs_too_much_memory_is_told_into_how_many_parts_it_fits(capsys, times, parts):
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    @handle_errors
    def command():
        raise RuntimeError(f"RESOURCE_EXHAUSTED: Out of memory allocating {int(times * memory)} bytes.")

    with pytest.raises(typer.Exit):
        command()
    shown = capsys.readouterr().err
    assert f"data.accumulate={parts} " in shown
    assert ("this machine has" in shown) == (times > 1)


def test_a_file_that_ends_too_soon_is_no_abort():
    """Typer takes every EOFError for a question that the user refused."""
    with pytest.raises(RuntimeError, match="ended too soon"):
        raising(EOFError())()
