"""How far the points of a sweep are, while its workers train them."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hepcli.errors import SweepError
from hepcli.experiments.sweeps.claims import DONE, ENDED, FAILED
from hepcli.experiments.sweeps.folder import Status, SweepFolder
from hepcli.experiments.sweeps.plan import Plan
from hepcli.experiments.sweeps.points import Point, resolve
from hepcli.experiments.sweeps.pool import Pool
from hepcli.experiments.sweeps.search import search_of

POLL_S = 0.5
_LEAST_FREE = 2**17  # bytes; a run's first files take as much


class PointProgress(NamedTuple):
    """How far a point is, and the epochs it is to have."""

    point: Point
    status: Status
    epochs: int


class SweepProgress(NamedTuple):
    """How far each point is, and how many a search will add.

    `seconds_left` is None until there is something to judge it by.
    """

    points: Sequence[PointProgress]
    to_come: int
    seconds_left: float | None


class PointSettled(NamedTuple):
    """A point was done, or pruned, then without a summary, or failed for good with `error`."""

    point: Point
    error: str | None
    summary: dict[str, Any] | None


class Watch:
    """Follows the points of a folder, of a search also those that are added."""

    def __init__(self, planned: Plan) -> None:
        self._folder, self._definition = SweepFolder(planned.folder), planned.definition
        self._search = search_of(self._folder)
        self._points = planned.own
        self._epochs: dict[str, int] = {}

    @property
    def num_points(self) -> int:
        """How many points there will be."""
        search = self._definition.search
        return len(self._points) if search is None else search.trials * len(self._definition.sweep.seeds)

    def until_over(
        self, pool: Pool, stop: Callable[[], bool], *, fail_fast: bool
    ) -> Iterator[SweepProgress | PointSettled]:
        """Watch until every point is settled, until one failed that should not, or until stopped."""
        settled: set[str] = set()
        is_left_alone = False  # all workers were asked to end, by somebody else
        started, behind = time.monotonic(), None
        while True:
            self._folder.check_there()
            points = self._progress()
            news = [p for p in points if p.point.hash not in settled and p.status.state in ENDED]
            settled.update(one.point.hash for one in news)
            yield from (_settled(self._folder, one.point) for one in news)
            done = sum(one.status.epochs for one in points)
            behind = done if behind is None else behind
            pace = (done - behind) / (time.monotonic() - started + 1e-9)
            to_come = self.num_points - len(points)
            left: float = sum(
                one.epochs - one.status.epochs for one in points if one.status.state not in ENDED
            )
            left += to_come * (sum(one.epochs for one in points) / len(points) if points else 0)
            yield SweepProgress(points, to_come, left / pace if pace > 0 else None)
            failed = fail_fast and any(one.status.state == FAILED for one in points)
            is_over = settled >= {one.point.hash for one in points} and self.is_over
            if is_over or failed or stop() or is_left_alone:
                return
            is_left_alone = not pool.alive  # once more, for what the last worker has come to
            if not pool.tend(progressed=bool(news)):
                raise _dying(self._folder.path)
            is_left_alone = is_left_alone and not pool.alive
            time.sleep(POLL_S)

    @property
    def num_open(self) -> int:
        """How many points are left to do."""
        states = self.states()
        return self.num_points - sum(state in ENDED for state in states)

    @property
    def num_failed(self) -> int:
        """How many points came to no result that counts."""
        return sum(_settled(self._folder, point).error is not None for point in self._there())

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do."""
        is_open = self._search is not None and self._search.is_open
        return not is_open and set(self.states()) <= set(ENDED)

    def states(self) -> list[str]:
        """The state of each point."""
        return [self._folder.state(point) for point in self._there()]

    @property
    def first_failed(self) -> Point | None:
        """A point that failed for good; None without."""
        return next((one for one in self._there() if self._folder.state(one) == FAILED), None)

    def _there(self) -> Sequence[Point]:
        return self._points if self._search is None else self._folder.points()

    def _progress(self) -> list[PointProgress]:
        there = self._there()
        for point in there:
            if point.hash not in self._epochs:
                self._epochs[point.hash] = resolve(point).config.run.epochs
        return [PointProgress(one, self._folder.status(one), self._epochs[one.hash]) for one in there]


def _dying(folder: Path) -> SweepError:
    """The error of workers that die one after the other, with the reason where it is plain to see."""
    is_full = shutil.disk_usage(folder).free < _LEAST_FREE
    reason = "no space is left on the disk" if is_full else _last_line(folder / "logs")
    return SweepError(
        f"Workers keep dying without finishing anything{f': {reason}' if reason else ''}.",
        f"See the logs in {folder / 'logs'}, then run the same command again.",
    )


def _last_line(logs: Path) -> str:
    """What the worker that wrote last said last; nothing where there is no such file."""
    newest = max(logs.glob("*.log"), key=lambda file: file.stat().st_mtime, default=None)
    lines = [] if newest is None else newest.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip().rstrip(".") for line in reversed(lines) if line.strip()), "")


def _settled(folder: SweepFolder, point: Point) -> PointSettled:
    state = folder.state(point)
    error = folder.journal(point).error() if state == FAILED else folder.stranger(point)
    if error is None and state == DONE and folder.is_lost(point):
        error = folder.lost(point)
    return PointSettled(point, error, None if error is not None else folder.run(point).read_summary())
