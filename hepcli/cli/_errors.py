"""How errors reach the user: one line what, one line what to do, exit status 1."""

import functools
import os
import re
import select
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer
from rich.text import Text

from hepcli.cli._stderr import StderrConsole, attempt, say
from hepcli.errors import HepError
from hepcli.files import legible

P = ParamSpec("P")
R = TypeVar("R")

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141
DEBUG_VARIABLE = "HEP_DEBUG"


def handle_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Show a `HepError` as two lines on stderr and exit with 1; an interrupt exits with 130.

    Where the reader of stdout has seen enough, as in `hep presets | head`, it ends without a word, as other
    tools do. What the system refuses is shown in words too. Other exceptions are bugs and keep their
    traceback. With `hep --debug` so do ours.
    """

    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except HepError as error:
            if os.environ.get(DEBUG_VARIABLE):
                raise
            show_error(error)
            raise typer.Exit(EXIT_ERROR) from None
        except BrokenPipeError as error:
            if not _reader_is_gone():
                show_error(_of_the_system(error))
                raise typer.Exit(EXIT_ERROR) from None
            raise typer.Exit(EXIT_PIPE) from None
        except KeyboardInterrupt:
            say("Interrupted.")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except EOFError as error:  # which Typer would take for an answer that the user refused
            raise RuntimeError("a file ended too soon") from error
        except Exception as error:
            known = None if os.environ.get(DEBUG_VARIABLE) else _known(error)
            if known is None:
                raise
            show_error(known)
            raise typer.Exit(EXIT_ERROR) from None

    return guarded


def _reader_is_gone() -> bool:
    """Whether it is stdout that nobody reads any more; then what is left for it goes nowhere."""
    try:
        stdout = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):
        return False  # closed, or no file at all
    watch = select.poll()
    watch.register(stdout, 0)
    if not any(events & select.POLLERR for _, events in watch.poll(0)):
        return False
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stdout)
    os.close(nowhere)
    return True


def _known(error: Exception) -> HepError | None:
    """An error of own components, of a device without room or of the system in words; None for others."""
    from hepcli.code import error_in_code

    if own := error_in_code(error):
        return own
    if isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NO_ROOM):
        return _out_of_memory(str(error))
    if isinstance(error, MemoryError):
        what = str(error) or "an allocation failed"
        return HepError(f"There is not enough memory: {what}.", "End other programs, or use fewer examples.")
    return _of_the_system(error) if isinstance(error, OSError) else None


def _of_the_system(error: OSError) -> HepError:
    """A path or a stream that the system refuses: permissions, a full disk, a name too long, a loop."""
    where = "standard output or a file" if error.filename is None else shown(error.filename)
    return HepError(
        f"{where}: {error.strerror or error}.",
        "Check that the path exists, that you may write to it and that the disk is not full; hep --debug "
        "… shows the traceback.",
    )


def shown(path: object) -> str:
    """A path as text that any terminal can show, cut where it is far too long."""
    text = os.fsdecode(path) if isinstance(path, bytes) else str(path)
    text = legible(text)
    return text if len(text) <= 200 else f"{text[:197]}…"


_OF_JAX = "JAX has removed its internal frames"  # a note on whatever is raised while it traces
_NO_ROOM = ("RESOURCE_EXHAUSTED", "Out of memory allocating")
"""What JAX says where there is no room, before a program runs and in the middle of it."""
_ASKED = re.compile(r"allocat\w+ (\d+) bytes")


def _out_of_memory(text: str) -> HepError:
    """JAX's own error of a device without room, of which the first line tells how much was asked for.

    A step's memory is in proportion to the examples that it takes at once.
    """
    from hepcli.experiments.devices import memory_limit, parts_that_fit

    reason = text.partition("RESOURCE_EXHAUSTED:")[2].strip().partition("\n")[0].rstrip(".")
    parts = 4
    if found := _ASKED.search(text):
        asked, memory = int(found[1]), memory_limit()
        reason = f"{asked / 2**30:.1f} GiB were requested at once"
        if asked > memory:  # else it is a GPU's that is full
            reason += f", but this machine has only {memory / 2**30:.1f} GiB"
            parts = parts_that_fit(asked, memory)
    return HepError(
        f"The device is out of memory: {reason}.",
        f"Set data.accumulate={parts} (or {parts} times its current value), which processes each batch in "
        "parts (results change by rounding only), or lower data.eval_batch_size; hep train --resume takes "
        "both, too. Or use more devices, or start a run with relaxation.free_precision=bfloat16.",
    )


def show_error(error: HepError) -> None:
    """Print what is wrong, what went wrong besides, and what to do, never cut or wrapped."""
    notes = [note for note in getattr(error, "__notes__", ()) if _OF_JAX not in note]
    lines = [
        Text.assemble(("error: ", "bold red"), error.what),
        *(Text.assemble((" also: ", "bold"), note) for note in notes),
        Text.assemble(("  try: ", "bold"), error.advice),
    ]
    attempt(lambda: StderrConsole(soft_wrap=True, highlight=False).print(*lines, sep="\n"))
