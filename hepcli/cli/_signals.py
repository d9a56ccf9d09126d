"""Interrupts: the first asks to stop after the step, the second stops at once."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from hepcli.cli._errors import EXIT_INTERRUPTED

_STOPPING = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
]  # Windows has the first two


@contextmanager
def stop_requests(notify: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C, and what terminals and schedulers end jobs with, into a question for the training loop.

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

    previous = {number: signal.signal(number, on_signal) for number in _STOPPING}
    try:
        yield lambda: requested
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
