"""A worker: claims points one after the other and trains them until none is left."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from hepcli.config import parse_shard
from hepcli.errors import FolderBusyError, HepError
from hepcli.experiments.run_folder import SUMMARY_FILE, RunFolder
from hepcli.experiments.sweeps.claims import DONE, FAILED, RELEASED, Claim, Heart
from hepcli.experiments.sweeps.folder import SweepFolder
from hepcli.experiments.sweeps.points import Point, program_of, resolve

POLL_S = 0.5
LARGEST_GROUP = 10
_BUSY_S = 2.0


class WorkRequest(NamedTuple):
    """What a worker is to do.

    Attributes:
        folder: of the sweep.
        shard: INDEX/NUMBER text; None for all points.
        together: train points of one compiled program together.
        wait: stay while others hold points, in case they die; without it end once none is free.
        cpus: processors to run on; none to leave that to the system.
        data_dir: where data sets are kept; None for the default folder.
    """

    folder: Path
    shard: str | None = None
    together: bool = False
    wait: bool = True
    cpus: Sequence[int] = ()
    data_dir: Path | None = None


class Job(NamedTuple):
    """A point that this worker has claimed."""

    point: Point
    claim: Claim


def work(request: WorkRequest, stop: Callable[[], bool]) -> Iterator[str]:
    """Train points of a sweep until all are done or failed, or until stopped.

    Args:
        request: where, and which points.
        stop: asked after every training step; True saves, releases the claims and ends.

    Yields:
        What happens, a line at a time.

    Raises:
        ConfigError: the folder holds no sweep.
        OutputError: the folder cannot be written.
    """
    if request.cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(request.cpus))  # before JAX starts its threads: it follows this
    folder = SweepFolder(request.folder)
    folder.definition()
    index, number = (0, 1) if request.shard is None else parse_shard(request.shard)
    points = folder.points()[index::number]
    while not stop():
        jobs = _claim(folder, points, request.together)
        if jobs:
            yield from _run(folder, jobs, request.data_dir, stop)
        elif not request.wait or not _unsettled(folder, points):
            return
        else:
            time.sleep(POLL_S)


def _unsettled(folder: SweepFolder, points: Sequence[Point]) -> bool:
    return any(folder.journal(point).state() in ("waiting", "running") for point in points)


def _claim(folder: SweepFolder, points: Sequence[Point], together: bool) -> list[Job]:
    """Claim the first free point, or with `together` the free points of its program."""
    jobs: list[Job] = []
    program = None
    for point in points:
        if len(jobs) == (LARGEST_GROUP if together else 1):
            break
        journal = folder.journal(point)
        if journal.state() != "waiting":
            continue
        if together:
            own = program_of(resolve(point).config)
            if program not in (None, own):
                continue
        claim = journal.claim()
        if claim is not None:
            jobs.append(Job(point, claim))
            program = own if together else None
    return jobs


def _run(
    folder: SweepFolder, jobs: Sequence[Job], data_dir: Path | None, stop: Callable[[], bool]
) -> Iterator[str]:
    """Train claimed points and settle their claims."""
    with Heart([job.claim for job in jobs]):
        for job in jobs:
            with _Settling(job) as settling:
                yield f"{job.point.folder}: started"
                finished = _train(folder, job, data_dir, stop)
                settling.state = DONE if finished else RELEASED
            yield f"{job.point.folder}: {settling.outcome}"


class _Settling:
    """Settles a claim whatever happens; an error of ours is recorded and goes no further."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.state = RELEASED
        self.outcome = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.outcome = self.state
        if isinstance(error, FolderBusyError):
            time.sleep(_BUSY_S)  # its claim was judged dead, but it still holds the folder
        elif isinstance(error, HepError):
            self.outcome = f"failed: {error}"
            self._job.claim.settle(FAILED, what=error.what, advice=error.advice)
            return True
        elif isinstance(error, Exception):
            self._job.claim.settle(
                FAILED, what=f"{type(error).__name__}: {error}", advice="See the worker's log."
            )
            return False
        self._job.claim.settle(RELEASED if error is not None else self.state)
        return isinstance(error, FolderBusyError)


def _train(folder: SweepFolder, job: Job, data_dir: Path | None, stop: Callable[[], bool]) -> bool:
    """Train a point, or go on where it was left; whether it is finished."""
    from hepcli.experiments.train import Finished, TrainRequest, train

    run = folder.run(job.point)
    if _is_finished(run):
        return True
    clear_unstarted(run)
    resolve(job.point)  # its preset may have changed
    settings = {} if run.holds_run else job.point.settings | {"run.seed": job.point.seed}
    preset = None if run.holds_run else job.point.preset
    request = TrainRequest(preset, (), settings, run.path, run.holds_run, data_dir)
    records = train(request, lambda: stop() or job.claim.lost)
    return any(isinstance(record, Finished) for record in records)


def _is_finished(run: RunFolder) -> bool:
    """Whether everything of the run is on disk: the curves are drawn last."""
    return (run.path / SUMMARY_FILE).exists() and (run.path / "curves.png").exists()


def clear_unstarted(run: RunFolder) -> None:
    """Remove a run that was killed before its first checkpoint: there is nothing to go on from."""
    if run.holds_run and not any(entry.name.isdecimal() for entry in _entries(run.checkpoints)):
        shutil.rmtree(run.path, ignore_errors=True)


def _entries(folder: Path) -> list[Path]:
    with suppress(FileNotFoundError, NotADirectoryError):
        return list(folder.iterdir())
    return []
