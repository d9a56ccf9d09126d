"""Interrupts: the first asks to stop after the step, the second stops at once."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from hepcli.cli._errors import EXIT_INTERRUPTED


@contextmanager
def stop_requests(notify: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Turn SIGINT and SIGTERM into a question the training loop can ask.

    Args:
        notify: called at the first signal.

    Yields:
        A function that tells whether to stop.
    """
    requested = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal requested
        if requested and number == signal.SIGINT:
            os._exit(EXIT_INTERRUPTED)  # a save under way is written under another name: nothing is torn
        if not requested:
            requested = True
            notify()

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: requested
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
