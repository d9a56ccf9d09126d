"""stderr, where nobody may be reading any more: what cannot be said ends no work."""

import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import typer
from rich.console import Console


class StderrConsole(Console):
    """Rich's console on stderr, without its habit of ending the process where a pipe has closed."""

    def __init__(self, **options: Any) -> None:
        if "width" in options:  # Rich ignores it on a dumb terminal unless there is a height, too
            options.setdefault("height", 100)
        super().__init__(stderr=True, **options)

    @property
    def is_live(self) -> bool:
        """Whether what it shows can be changed later: a dumb terminal is written to like a file."""
        return is_terminal() and self.is_terminal and not self.is_dumb_terminal

    def on_broken_pipe(self) -> None:
        """Leave it to `attempt`."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def is_terminal() -> bool:
    """Whether stderr is a terminal; Rich's own answer is yes for a file too, where FORCE_COLOR is set."""
    return sys.stderr.isatty()


def show_cursor() -> None:
    """Show the cursor of a terminal again, which a progress bar may have hidden."""
    with suppress(OSError):
        if is_terminal():
            os.write(2, b"\x1b[?25h")


def say(text: str) -> None:
    """Print a line to stderr, if anybody is there; see `attempt`."""
    attempt(lambda: typer.echo(text, err=True))


def attempt(show: Callable[[], object]) -> None:
    """Show something on stderr; a terminal or pipe that is gone, or a full disk, ends no work.

    Args:
        show: does nothing but print.
    """
    try:
        show()
    except OSError:
        _let_go()
    except ValueError as error:
        if "closed file" not in str(error):
            raise


def _let_go() -> None:
    """Let all that is still to be written there vanish: flushing it would fail again as the process ends."""
    stream = sys.__stderr__
    if stream is None or stream is not sys.stderr or stream.closed:
        return  # nothing of ours: a display or a test has put its own in place
    with suppress(OSError):  # no file at all, or none can be opened: then each line is tried in vain
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
