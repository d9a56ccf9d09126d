"""What `hep sweep` starts: a worker on the points of a sweep."""

import os
from pathlib import Path
from typing import Annotated

import typer

from hepcli.cli._errors import handle_errors
from hepcli.cli._options import DataDir, user_path
from hepcli.cli._stderr import say
from hepcli.cli._sweep_options import FailFast, Shard, Together


@handle_errors
def worker_command(
    folder: Annotated[Path, typer.Argument(parser=user_path, metavar="DIR", help="Folder of the sweep.")],
    together: Together = False,
    fail_fast: FailFast = False,
    shard: Shard = None,
    cpus: Annotated[str | None, typer.Option("--cpus", metavar="0,1", help="CPU cores to run on.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait while other workers hold points.")
    ] = True,
    parent: Annotated[
        int | None, typer.Option("--parent", metavar="PID", help="Stop when this process has ended.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Work on a sweep folder until nothing is left; `hep sweep` starts these."""
    from hepcli.cli._signals import stop_requests
    from hepcli.experiments.sweeps.worker import WorkRequest, work

    request = WorkRequest(
        folder,
        shard,
        together,
        fail_fast,
        wait,
        [int(cpu) for cpu in cpus.split(",")] if cpus else [],
        data_dir,
    )
    parent = os.getppid() if parent is None else parent
    with stop_requests(lambda: say("stop requested")) as stop:
        for line in work(request, lambda: stop() or os.getppid() != parent):
            say(line)
