"""The `hep` command, which is `python -m hepcli` too."""

import _signal as signal  # type: ignore[import-not-found]  # signal imports enum and re: nobody heeds Ctrl-C then
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType


def main() -> None:
    """Run the command line; an interrupt while modules are imported ends it at once.

    A module that is imported halfway answers an interrupt with errors of all kinds, or not at all. Where
    nothing is being imported it is a KeyboardInterrupt as ever, and so are SIGTERM and SIGHUP: what was
    begun is cleared away, and the cursor comes back.
    """
    if sys.platform == "win32":
        sys.exit("error: hep runs on Linux and macOS.\n  try: On Windows, install it in WSL.")
    _open_closed()
    if "--debug" not in sys.argv:  # XLA's own lines, such as of slow compilations, would tear displays
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    heeded = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Where it has another handler already it was started to ignore it.
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _on_interrupt)
            heeded.append(number)
    from hepcli.cli import main as run  # after the handler: this alone takes a while

    try:
        run()
    except KeyboardInterrupt:  # while commands are built; once one runs it answers for itself
        _leave()
    except SystemExit as ended:
        if ended.code != 128 + signal.SIGINT:
            raise
        _end_at_once(128 + signal.SIGINT)
    finally:
        for number in heeded:  # as the process ends there is nothing left to interrupt
            signal.signal(number, signal.SIG_DFL)


def _open_closed() -> None:
    """Send what goes to a closed stdout or stderr nowhere; files opened later would get their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def _on_interrupt(number: int, frame: "FrameType | None") -> None:
    if not _is_importing(frame):
        raise KeyboardInterrupt
    _leave()


def _end_at_once(status: int) -> None:
    """End an interrupted command; Python would take down what XLA's threads are still computing with."""
    from contextlib import suppress

    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody is there to read it
            stream.flush()
    os._exit(status)


def _leave() -> None:
    try:
        if os.isatty(2):
            os.write(2, b"\x1b[?25h")  # a progress bar may have hidden the cursor
        os.write(2, b"Interrupted.\n")
    except OSError:
        pass  # nobody is there to read it
    os._exit(128 + signal.SIGINT)


def _is_importing(frame: "FrameType | None") -> bool:
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


if __name__ == "__main__":
    main()
