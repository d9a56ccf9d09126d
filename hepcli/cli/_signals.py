"""Interrupts: the first asks to stop after the step, the second stops at once."""

import _thread
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from hepcli.cli._errors import EXIT_INTERRUPTED
from hepcli.cli._stderr import attempt, show_cursor

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

_TELLING_S = 1.0
"""Within which the notice is printed, unless whoever reads it does not."""


@contextmanager
def stop_requests(notify: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C, and what terminals and schedulers end jobs with, into a question for the training loop.

    Signals that the process was started to ignore stay ignored.

    Args:
        notify: prints, at the first signal; what it cannot print stops no saving.

    Yields:
        A function that tells whether to stop.
    """
    requested, told = False, threading.Event()

    def tell() -> None:
        try:
            attempt(notify)
        finally:
            told.set()

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal requested
        if requested and number == signal.SIGINT:
            show_cursor()
            os._exit(EXIT_INTERRUPTED)  # a save under way is written under another name: nothing is torn
        if not requested:
            requested = True
            # In a thread, since it waits for locks of the display that this one may hold; and not by
            # `Thread.start`, which takes one, too.
            _thread.start_new_thread(tell, ())

    def stop() -> bool:
        if requested:
            told.wait(_TELLING_S)
        return requested

    # What is ignored stays so: that is how nohup, and a script's background jobs, are kept alive.
    heeded = [number for number in _STOPPING if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, on_signal) for number in heeded}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
