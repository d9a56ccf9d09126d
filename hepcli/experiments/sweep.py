"""The function behind `hep sweep`: a grid of runs, from definition to table and figure."""

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hepcli.data import load_split
from hepcli.errors import OutputError, SweepError
from hepcli.experiments.run_folder import RunFolder
from hepcli.experiments.sweeps.definition import SweepRequest
from hepcli.experiments.sweeps.examples import check_examples
from hepcli.experiments.sweeps.folder import SweepFolder
from hepcli.experiments.sweeps.joining import join
from hepcli.experiments.sweeps.plan import Plan, plan
from hepcli.experiments.sweeps.points import resolve
from hepcli.experiments.sweeps.pool import Pool, PoolSettings, idle_notice, visible_devices
from hepcli.experiments.sweeps.report import Report, check_replaceable, report
from hepcli.experiments.sweeps.reuse import copy_runs
from hepcli.experiments.sweeps.watch import POLL_S, PointSettled, SweepProgress, Watch


class SweepStarted(NamedTuple):
    """The folder is ready, for so many points; `notices` are for the user."""

    folder: Path
    num_points: int
    notices: tuple[str, ...] = ()


class SweepInterrupted(NamedTuple):
    """The sweep was stopped and saved; `command` goes on."""

    command: str


class SweepFinished(NamedTuple):
    """All points are done, pruned or failed; `failed` of them."""

    report: Report
    failed: int


SweepEvent = SweepStarted | SweepProgress | PointSettled | SweepInterrupted | SweepFinished


def sweep(
    request: SweepRequest, command: Sequence[str], stop: Callable[[], bool] = lambda: False
) -> Iterator[SweepEvent]:
    """Run a sweep, or join one.

    Args:
        request: what to run and where.
        command: the command line that was given, to print after an interrupt.
        stop: asked twice a second; True has the workers save and end.

    Yields:
        Records of the progress, the last one `SweepInterrupted` or `SweepFinished`.

    Raises:
        CheckpointError, CodeError: as `plan`.
        ConfigError: settings that are not allowed, or a folder of another sweep.
        DatasetError: a data set is missing or damaged.
        OutputError: the folder cannot be written.
        SweepError: workers keep dying, a run failed with `fail_fast`, Optuna is missing, or the list of
            points is damaged.
    """
    planned = prepare(request, stop=stop)
    watch = Watch(planned)
    idle = idle_notice(request.jobs, visible_devices())
    yield SweepStarted(planned.folder, watch.num_points, (*planned.notes, *filter(None, [idle])))
    if stop():
        yield SweepInterrupted(shlex.join(command))
        return
    arguments = worker_arguments(planned.folder, request)
    jobs = max(1, min(request.jobs, watch.num_open))
    pool = Pool(PoolSettings(jobs, arguments, planned.folder / "logs"))
    try:
        yield from watch.until_over(pool, stop, fail_fast=request.fail_fast)
    finally:
        pool.terminate()
        while pool.alive:
            time.sleep(POLL_S / 10)
    if watch.is_over:
        yield SweepFinished(report(planned.folder, None, request.figure_format), watch.num_failed)
    elif request.fail_fast and (point := watch.first_failed) is not None:
        raise SweepError(
            f"Stopped by --fail-fast: {point.title} failed.",
            "Finished work is kept. To retry the failed run and continue, add "
            f"--resume --out {planned.folder}",
        )
    else:
        yield SweepInterrupted(shlex.join(command))


def prepare(
    request: SweepRequest, planned: Plan | None = None, stop: Callable[[], bool] = lambda: False
) -> Plan:
    """Make or join the folder of a request, once all that can be checked before has been.

    Args:
        request: what to run and where.
        planned: what it comes to, where that is known already.
        stop: asked before every run that is copied; True leaves the others.

    Raises:
        ConfigError, DatasetError, OutputError: as `sweep` does.
    """
    planned = planned or plan(request)
    folder = SweepFolder(planned.folder)
    is_search = planned.definition.search is not None
    trained = folder.points() if is_search and folder.holds_sweep else planned.points
    for name in sorted({resolve(point).config.data.name for point in planned.points}):
        load_split(name, "test", request.data_dir)
        check_examples(folder, trained, name, request.data_dir)
    if not folder.holds_sweep:
        if RunFolder(planned.folder).holds_run:
            raise OutputError(f"{planned.folder} contains a run.", "Choose another --out.")
        check_replaceable(planned.folder)
    join(folder, planned.definition, planned.points, extend=request.resume)
    folder.keep_code(planned.definition)
    if request.resume:
        for point in planned.own if planned.definition.search is None else folder.points():
            folder.journal(point).retry(is_lost=folder.is_lost(point))
    copy_runs(folder, planned.own, planned.reused, stop)
    return planned


def worker_arguments(folder: Path, request: SweepRequest) -> list[str]:
    """Arguments of `hep sweep-worker` for a request."""
    arguments = [str(folder.absolute())]
    arguments += ["--together"] if request.together else []
    arguments += ["--fail-fast"] if request.fail_fast else []
    arguments += [] if request.shard is None else ["--shard", request.shard]
    return arguments + ([] if request.data_dir is None else ["--data-dir", str(request.data_dir.absolute())])
