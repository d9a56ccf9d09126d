"""A search in a sweep's folder: its trials, what came of them, and the next one.

The trials are numbered, and their numbers are claimed as points are: whoever holds the next one chooses it,
with all that is known by then, and writes it down; its runs are then points like any others, and any worker
may train them.
"""

import itertools
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hepcli.config import VALIDATION_ERROR, SearchTable, SweepDefinition
from hepcli.errors import SweepError
from hepcli.experiments.run_files import SUMMARY_FILE
from hepcli.experiments.sweeps.claims import DONE, ENDED, FAILED, PRUNED, RELEASED, Claim, Heart, Journal
from hepcli.experiments.sweeps.collection import value_of
from hepcli.experiments.sweeps.folder import SweepFolder
from hepcli.experiments.sweeps.points import Point, labels_of, points_at
from hepcli.experiments.sweeps.study import Result, Study, check_optuna, is_worse, suggest
from hepcli.experiments.sweeps.trials import Places, Trial, read_trials, trial_file, trial_text
from hepcli.files import write_once

_ATTEMPTS = 20
_PATIENCE_S = 10.0


class Search:
    """The search of a sweep.

    Args:
        folder: of the sweep.
        definition: of the sweep, with its [search].
    """

    def __init__(self, folder: SweepFolder, definition: SweepDefinition) -> None:
        self.folder, self.definition = folder, definition
        self.settings: SearchTable = definition.search  # type: ignore[assignment]
        self._study = Study(folder.path, self.settings, definition.axis)
        self._over: dict[int, Result] = {}

    @property
    def is_open(self) -> bool:
        """Whether more trials are to come."""
        return self._next_number() < self.settings.trials

    def results(self) -> list[Result]:
        """What the trials came to so far; raises OutputError where a run's records are damaged."""
        found = []
        for trial in read_trials(self.folder.path):
            result = self._over.get(trial.number) or self._result(trial)
            if result.state in (DONE, PRUNED):  # a failed one may be given new attempts
                self._over[trial.number] = result
            found.append(result)
        return found

    def propose(self) -> bool:
        """Choose the next trial, unless all are there, or another worker is about to.

        Returns:
            Whether there is a new one.

        Raises:
            OutputError: the folder cannot be written.
            SweepError: Optuna is not installed, or its study cannot be written.
        """
        check_optuna()
        number = self._next_number()
        claim = self._claim(number) if number < self.settings.trials else None
        if claim is None:
            return False
        with Heart([claim]):
            try:
                if self._next_number() == number:
                    results = self.results()
                    self._study.record(results)
                    trial = self._choose(number, results)
                    file = trial_file(self.folder.path, number)
                    with self.folder.writing():
                        file.parent.mkdir(exist_ok=True)
                        write_once(file, trial_text(trial))
            finally:
                claim.settle(RELEASED)
        return True

    def record(self) -> list[str]:
        """Bring the study up to date; what the user should know of it."""
        started = time.monotonic()
        while (claim := self._claim(self._next_number())) is None:
            if time.monotonic() - started > _PATIENCE_S:
                return []  # whoever holds it records what is over
            time.sleep(_PATIENCE_S / 100)
        with Heart([claim]):
            try:
                notice = self._study.record(self.results())
            finally:
                claim.settle(RELEASED)
        return [] if notice is None else [notice]

    def prunes(self, point: Point) -> bool:
        """Whether the run of a point, at the end of an epoch, is to go no further."""
        if self.settings.pruner == "none":
            return False
        results = self.results()
        own = next(one for one in results if point.hash in {its.hash for its in one.trial.points})
        return is_worse(self.settings, self.definition.axis, results, own)

    def _next_number(self) -> int:
        there = {trial.number for trial in read_trials(self.folder.path)}
        return next(number for number in itertools.count() if number not in there)

    def _claim(self, number: int) -> Claim | None:
        """The right to choose a trial, and to write the study; None while another has it."""
        if number and self._journal(number - 1).state() == "running":
            return None
        return self._journal(number).claim()

    def _journal(self, number: int) -> Journal:
        return Journal(self.folder.path / "claims" / f"trial-{number:06d}")

    def _choose(self, number: int, results: Sequence[Result]) -> Trial:
        """A combination that was not tried before."""
        tried = [result.trial.places for result in results]
        for places in self._candidates(results):
            if places not in tried:
                return self._trial(number, places)
        raise SweepError("The search found no untried point.", "Widen an axis, or ask for fewer trials.")

    def _candidates(self, results: Sequence[Result]) -> Iterator[Places]:
        """What the sampler suggests; where that is known already, whatever is left of a finite space."""
        axes = self.definition.axis
        for attempt in range(0 if self.settings.sampler == "grid" else _ATTEMPTS):
            yield suggest(self.settings, axes, results, attempt)
        choices: list[Sequence[str | float]] = []
        for axis in axes:
            if axis.bounds is None:
                choices.append([place.label for place in axis.places])
            else:
                low, high = map(int, axis.bounds)
                choices.append(range(low, high + 1) if axis.integer else [])
        for places in itertools.product(*choices):
            yield dict(zip([axis.name for axis in axes], places, strict=True))

    def _trial(self, number: int, places: Places) -> Trial:
        there = [axis.place(places[axis.name]) for axis in self.definition.axis]
        points, faults = points_at(self.definition, labels_of(self.definition, there), there)
        if faults:
            return Trial(number, places, [], "; ".join(map(str, dict.fromkeys(faults))))
        return Trial(number, places, points, None)

    def _result(self, trial: Trial) -> Result:
        if trial.error is not None:
            return Result(trial, FAILED, None, {}, trial.error)
        states = [self.folder.state(point) for point in trial.points]
        by_epoch = self._by_epoch(trial)
        if not set(states) <= set(ENDED):
            return Result(trial, "running" if set(states) != {"waiting"} else "waiting", None, by_epoch)
        for state, point in zip(states, trial.points, strict=True):
            if state == FAILED:
                return Result(trial, FAILED, None, by_epoch, self.folder.journal(point).error())
        if PRUNED in states:
            return Result(trial, PRUNED, min(by_epoch.values(), default=None), by_epoch)
        values = [self._value(point) for point in trial.points]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return Result(trial, FAILED, None, by_epoch, f"{self.settings.objective} is undefined.")
        return Result(trial, DONE, statistics.fmean(known), by_epoch)

    def _value(self, point: Point) -> float | None:
        run = self.folder.run(point)
        summary = run.read_summary()
        return (
            None if summary is None else value_of(summary, self.settings.objective, run.path / SUMMARY_FILE)
        )

    def _by_epoch(self, trial: Trial) -> Mapping[int, float]:
        if self.settings.objective != VALIDATION_ERROR or len(trial.points) != 1:
            return {}
        lines: list[dict[str, Any]] = self.folder.run(trial.points[0]).read_metrics()
        shares = {line["epoch"]: line["validation"]["top1"] for line in lines if "validation" in line}
        return {epoch: 100 * (1 - share) for epoch, share in shares.items() if share is not None}


def search_of(folder: SweepFolder) -> Search | None:
    """The search of a sweep's folder; None where it is none."""
    definition = folder.definition()
    return None if definition.search is None else Search(folder, definition)
