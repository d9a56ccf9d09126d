"""How errors of the device reach the user."""

import jax
import pytest
import typer

from hepcli.cli._errors import handle_errors


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
    assert "out of memory: Out of memory while trying to allocate 12884901888 bytes." in shown
    assert "data.batch_size" in shown
    assert "free_precision" in shown
    assert "BufferAssignment" not in shown


def test_other_errors_of_the_device_keep_their_traceback():
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        raising(jax.errors.JaxRuntimeError("INTERNAL: a bug"))()
