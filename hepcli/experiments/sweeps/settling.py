"""Claims of a worker, kept alive while it trains and settled whatever happens."""

from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

from hepcli.code import place_in_code
from hepcli.errors import FolderBusyError, HepError
from hepcli.experiments.sweeps.claims import FAILED, RELEASED, Claim, Heart
from hepcli.experiments.sweeps.points import Point

Ending = str | HepError
"""The state that a point came to, `DONE`, `PRUNED` or `RELEASED`, or its error."""


class Job(NamedTuple):
    """A point that this worker has claimed."""

    point: Point
    claim: Claim


class Settling:
    """Keeps claims alive and settles them whatever happens, also when this worker breaks down.

    Args:
        jobs: the claimed points.

    Attributes:
        busy: points that another process trains, found out so far.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._open = {job.point.hash: job for job in jobs}
        self.busy: list[Point] = []
        self._heart = Heart([job.claim for job in jobs])

    def __enter__(self) -> Self:
        self._heart.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        failed: HepError | None = None
        for job in list(self._open.values()):
            try:
                self._settle_after(job, error)
            except HepError as own:  # the others are settled all the same
                failed = own
        self._heart.__exit__(kind, error, traceback)
        if failed is not None and error is None:
            raise failed
        if failed is not None and error is not None:
            error.add_note(str(failed))  # what ended the work matters more than what followed from it

    def _settle_after(self, job: Job, error: BaseException | None) -> None:
        if isinstance(error, HepError):
            self.settle(job, error)
        elif isinstance(error, Exception):
            place = place_in_code(error)
            what = f"{f'{place}: ' if place else ''}{type(error).__name__}: {error}"
            job.claim.settle(
                FAILED, what=what, advice="See the worker's log in the logs folder of the sweep."
            )
        else:
            job.claim.settle(RELEASED)

    def settle(self, job: Job, ending: Ending) -> str:
        """Settle one claim with what came of it.

        Returns:
            The same in words.
        """
        if isinstance(ending, FolderBusyError):
            self.busy.append(job.point)
            job.claim.settle(RELEASED)
            result = "held by another process"
        elif isinstance(ending, HepError):
            job.claim.settle(FAILED, what=ending.what, advice=ending.advice)
            result = f"failed: {ending}"
        else:
            job.claim.settle(ending)
            result = "saved and released" if ending == RELEASED else ending
        del self._open[job.point.hash]
        return result
