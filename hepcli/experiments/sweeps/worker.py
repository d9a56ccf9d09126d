"""A worker: claims points one after the other and trains them until none is left."""

import functools
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hepcli.config import parse_shard
from hepcli.errors import HepError, OutputError
from hepcli.experiments.sweeps.claims import DONE, FAILED, PRUNED, RELEASED
from hepcli.experiments.sweeps.examples import check_examples
from hepcli.experiments.sweeps.folder import SweepFolder
from hepcli.experiments.sweeps.points import Point, program_of, resolve
from hepcli.experiments.sweeps.search import Search, search_of
from hepcli.experiments.sweeps.settling import Ending, Job, Settling

if TYPE_CHECKING:
    from hepcli.experiments.request import TrainRequest

POLL_S = 0.5
LARGEST_GROUP = {"cpu": 10, "gpu": 40}
"""Runs that train together, by platform: on a GPU twenty dense ones took 1.16 times as long as ten."""
_BUSY_S = 30.0
"""For which a point is left alone that another process trains, by `hep train` or after its claim expired."""


class WorkRequest(NamedTuple):
    """What a worker is to do.

    Attributes:
        folder: of the sweep.
        shard: I/N text; None for all points.
        together: train points of one compiled program together.
        fail_fast: end once a point has failed for good.
        wait: stay while others hold points, in case they die; without it end once none is free.
        cpus: processors to run on; none to leave that to the system.
        data_dir: where data sets are kept; None for the default folder.
    """

    folder: Path
    shard: str | None = None
    together: bool = False
    fail_fast: bool = False
    wait: bool = True
    cpus: Sequence[int] = ()
    data_dir: Path | None = None


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
        SweepError: a search whose trials are damaged, or without Optuna.
    """
    if request.cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(request.cpus))  # before JAX starts its threads: it follows this
    folder = SweepFolder(request.folder)
    folder.load_code()
    search = search_of(folder)
    index, number = (0, 1) if request.shard is None else parse_shard(request.shard)
    points = folder.points()[index::number]
    busy_until: dict[str, float] = {}
    while not stop():
        folder.check_there()
        points = points if search is None else folder.points()
        if request.fail_fast and any(folder.state(point) == FAILED for point in points):
            return
        free = [point for point in points if busy_until.get(point.hash, 0.0) <= time.monotonic()]
        jobs = _claim(folder, free, request.together)
        if jobs:
            for busy in (yield from _run(folder, jobs, search, request.data_dir, stop)):
                busy_until[busy.hash] = time.monotonic() + _BUSY_S
        elif search is not None and search.propose():
            continue
        elif _is_over(folder, points, search, request.wait):
            return
        else:
            time.sleep(POLL_S)


def _is_over(folder: SweepFolder, points: Sequence[Point], search: Search | None, wait: bool) -> bool:
    """Whether nothing is left for a worker, which may wait for others' points to come free."""
    if search is not None and search.is_open:
        return False
    return not wait or not any(folder.state(point) in ("waiting", "running") for point in points)


@functools.cache
def _largest_group() -> int:
    import jax

    from hepcli.experiments.ambient import fix_ambient

    fix_ambient()  # before the first question to JAX, which settles what devices there are
    return LARGEST_GROUP.get(jax.default_backend(), LARGEST_GROUP["cpu"])


def _claim(folder: SweepFolder, points: Sequence[Point], together: bool) -> list[Job]:
    """Claim the first free point, or with `together` the free points of its program."""
    jobs: list[Job] = []
    program = None
    largest = _largest_group() if together else 1
    try:
        for point in points:
            if len(jobs) == largest:
                break
            if folder.state(point) != "waiting":
                continue
            own = _program(point) if together else None
            if jobs and (own is None or own != program):
                continue
            claim = folder.journal(point).claim(folder.step(point))
            if claim is not None:
                jobs.append(Job(point, claim))
                program = own
                if own is None:
                    break
    except BaseException:
        for job in jobs:  # left open they would count as deaths
            job.claim.settle(RELEASED)
        raise
    return jobs


def _program(point: Point) -> object | None:
    """What points that train together share; None where there is none to say, and the point fails alone."""
    try:
        return program_of(resolve(point).config)
    except HepError:
        return None


def _run(
    folder: SweepFolder,
    jobs: Sequence[Job],
    search: Search | None,
    data_dir: Path | None,
    stop: Callable[[], bool],
) -> Generator[str, None, list[Point]]:
    """Train claimed points, several together, and settle their claims; return those that another trains."""
    with Settling(jobs) as settling:
        names = ", ".join(job.point.folder for job in jobs)
        yield f"{names}: started"
        for job, news in _train(folder, jobs, search, data_dir, stop):
            text = news.notice if isinstance(news, _Told) else settling.settle(job, news)
            yield f"{job.point.folder}: {text}"
    return settling.busy


class _Told(NamedTuple):
    """What a run says that is under way."""

    notice: str


def _train(
    folder: SweepFolder,
    jobs: Sequence[Job],
    search: Search | None,
    data_dir: Path | None,
    stop: Callable[[], bool],
) -> Iterator[tuple[Job, Ending | _Told]]:
    """Train points, or go on where they were left; of each its notices, and its final state or its error."""
    from hepcli.experiments.group import train_together
    from hepcli.experiments.records import Finished, Interrupted

    left: list[tuple[Job, TrainRequest]] = []
    for job in jobs:
        try:
            if _is_finished(folder, job.point):
                yield job, DONE
            else:
                left.append((job, _request(folder, job.point, data_dir)))
        except HepError as error:
            yield job, error
    over: set[int] = set()  # whose claims are settled, which looks as if they were lost

    def halt() -> bool:
        going = [job for index, (job, _) in enumerate(left) if index not in over]
        return stop() or any(job.claim.lost for job in going)

    if len(left) == 1:
        job, request = left[0]
        try:
            state = yield from _train_alone(job, request, search, halt)
        except HepError as error:
            yield job, error
        else:
            yield job, state
    elif left:
        for index, record in train_together([request for _, request in left], halt):
            yield from _told(left[index][0], record)
            if isinstance(record, HepError):
                over.add(index)
                yield left[index][0], record
            elif isinstance(record, Finished | Interrupted):
                over.add(index)
                yield left[index][0], DONE if isinstance(record, Finished) else RELEASED


def _train_alone(
    job: Job, request: "TrainRequest", search: Search | None, halt: Callable[[], bool]
) -> Generator[tuple[Job, _Told], None, str]:
    """Train one point, until a search prunes it; its notices, and in the end the state it came to."""
    from hepcli.experiments.records import EpochDone, Finished
    from hepcli.experiments.train import train

    state = RELEASED
    for record in train(request, lambda: state == PRUNED or halt()):  # noqa: B023 - meant to follow it
        yield from _told(job, record)
        if isinstance(record, Finished):
            state = DONE
        elif isinstance(record, EpochDone) and search is not None and search.prunes(job.point):
            state = PRUNED
    return state


def _told(job: Job, record: object) -> Iterator[tuple[Job, _Told]]:
    """The notices of a record."""
    return ((job, _Told(text)) for text in getattr(record, "notices", ()))


def _request(folder: SweepFolder, point: Point, data_dir: Path | None) -> "TrainRequest":
    """What `hep train` would be asked for; a run that was started is resumed."""
    from hepcli.experiments.request import TrainRequest

    run = folder.run(point)
    config = resolve(point).config  # its preset may have changed, and so may its data set
    check_examples(folder, folder.points(), config.data.name, data_dir)
    if run.holds_run:
        return TrainRequest(out=run.path, resume=True, data_dir=data_dir)
    return TrainRequest(
        preset=point.preset,
        flags=point.settings | {"run.seed": point.seed},
        out=run.path,
        data_dir=data_dir,
    )


def _is_finished(folder: SweepFolder, point: Point) -> bool:
    """Whether everything of the run is on disk: the summary is written last, but for a picture.

    Raises:
        OutputError: what lies there is another run's.
    """
    run = folder.run(point)
    if what := folder.stranger(point):
        raise OutputError(
            f"{what}", f"Move {run.path} away, then run: hep sweep --resume --out {folder.path} …"
        )
    return run.read_summary() is not None
