"""Starts commands from a process that has imported everything, so that each takes a second less.

Run as a script with one end of a socket pair; it knows nothing of the campaign. A request is a message of
JSON: `argv`, `folder` and `trigger`, with the descriptors of stdout and stderr, start a command and are
answered by its process id; `poll` with a process id is answered by its exit status, null while it goes on.
"""

import atexit
import errno
import json
import os
import resource
import signal
import socket
import sys
import warnings
from pathlib import Path
from typing import Any

_WRITING = ("os.mkdir", "os.rename", "os.link")
_EVENTS = ("open", "os.remove", "os.rmdir", "shutil.rmtree", *_WRITING)


class Trigger:
    """An audit hook that acts at the n-th use of a file whose path holds `part`.

    Args:
        part: of the path.
        nth: which use, from 1.
        action: `kill`, `signal`, `limit` (the size of files, from then on), `refuse` (from then on every file
            that is to be written, as a full disk does) or `count` (write how many to a file at the end).
        value: the number of the signal, the size, or the file.
        writes_only: whether uses that only read do not count.
    """

    def __init__(
        self, part: str, nth: int, action: str, value: Any = None, writes_only: bool = False
    ) -> None:
        self._part, self._nth, self._action, self._value = part, nth, action, value
        self._writes_only, self._uses = writes_only, 0
        if action == "count":
            atexit.register(lambda: Path(value).write_text(str(self._uses)))

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS or not self._concerns(arguments):
            return
        writes = event in _WRITING or (
            event == "open" and bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR))
        )
        if self._writes_only and not writes:
            return
        self._uses += 1
        if self._uses == self._nth:
            self._act()
        if self._uses >= self._nth and self._action == "refuse" and writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), arguments[0])

    def _concerns(self, arguments: tuple[Any, ...]) -> bool:
        paths = [os.fsdecode(path) for path in arguments[:2] if isinstance(path, (str, bytes, os.PathLike))]
        return any(self._part in path for path in paths)

    def _act(self) -> None:
        match self._action:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "signal":
                os.kill(os.getpid(), self._value)
            case "limit":
                resource.setrlimit(resource.RLIMIT_FSIZE, (self._value, resource.RLIM_INFINITY))


def import_all() -> None:
    """Import what the commands import while they run, but start no device."""
    import matplotlib.pyplot  # noqa: F401

    import hepcli.cli._display
    import hepcli.experiments.evaluate
    import hepcli.experiments.figures.curves
    import hepcli.experiments.figures.pictures
    import hepcli.experiments.sweeps.report
    import hepcli.experiments.sweeps.worker  # noqa: F401
    from hepcli.checkpoints._arrays import _orbax

    _orbax()


def serve(connection: socket.socket) -> None:
    """Answer requests until the other end closes; returns in a command's own process as well."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 2)
        if not message:
            os._exit(0)
        request = json.loads(message)
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if answer == 0:
                connection.close()
                _become(request, descriptors)
                return
            for descriptor in descriptors:
                os.close(descriptor)
        connection.send(json.dumps(answer).encode())


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Take on the arguments, streams and trigger of a command."""
    os.setsid()
    os.chdir(request["folder"])
    for number, descriptor in zip((1, 2), descriptors, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.argv = ["hep", *request["argv"]]
    if request["trigger"] is not None:
        sys.addaudithook(Trigger(**request["trigger"]))


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*os.fork", category=RuntimeWarning)
    warnings.filterwarnings("ignore", message=".*multi-threaded", category=DeprecationWarning)
    import_all()
    serve(socket.socket(fileno=int(sys.argv[1])))
    from hepcli.cli import main

    main()
