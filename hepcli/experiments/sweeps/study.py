"""What Optuna does for a search: samplers, pruners, importances, and the study that other tools read.

Files of the sweep's own say what was tried; the study, a journal beside them, is written after them, one
whole line a finished trial. What a killed writer leaves of a line is cut off again: Optuna reads no further
than a torn line that others follow.
"""

import os
import random
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hepcli.config import Axis, SearchTable
from hepcli.errors import SweepError
from hepcli.experiments.sweeps.trials import Places, Trial

if TYPE_CHECKING:
    import optuna

JOURNAL_FILE = "optuna.journal"
STUDY_NAME = "hep"
_NUMBER = "trial"
_DIGITS = 6
_STARTUP_TRIALS = 5
_LEAST_COMPLETE = 20
_BEST = 0.25
"""Share of the trials that importances are about; of Optuna's default, a tenth, few searches have enough."""
_SHUFFLES = 19
"""Of the values among the trials; one search in 20 has an axis that counts for more than in all by chance."""
_LOCK_EXPIRES_S = 10
_STATES = {"done": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}


class Result(NamedTuple):
    """What a trial came to.

    Attributes:
        trial: which.
        state: `waiting`, `running`, `done`, `pruned` or `failed`.
        value: the objective, mean over the seeds; None where it is not known.
        by_epoch: epoch to validation error in %, of a search with one seed.
        error: why it failed, else None.
    """

    trial: Trial
    state: str
    value: float | None
    by_epoch: Mapping[int, float]
    error: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state in _STATES


def check_optuna() -> None:
    """Raises SweepError where Optuna is not installed."""
    if find_spec("optuna") is None:
        raise SweepError(
            "A search needs Optuna, which is not installed.", 'Run: python -m pip install "hepcli[search]"'
        )


def suggest(search: SearchTable, axes: Sequence[Axis], results: Sequence[Result], attempt: int) -> Places:
    """Choose the places of the next trial; the same for the same results.

    Args:
        search: how.
        axes: of the search.
        results: of the trials before.
        attempt: from 0; a higher one for another choice.

    Returns:
        A place on every axis.
    """
    with _optuna() as optuna:
        seed = random.Random(f"{search.seed} {len(results)} {attempt}").getrandbits(32)
        samplers = optuna.samplers
        sampler: Any = samplers.RandomSampler(seed)
        if search.sampler == "tpe":
            # Trials that are under way count as bad ones, lest workers crowd at one place.
            sampler = samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
        study = optuna.create_study(sampler=sampler, direction=search.direction)
        # TPE takes no notice of failed trials, but where training diverges is the edge of what is good.
        learned = [one._replace(state="pruned") if one.state == "failed" else one for one in results]
        study.add_trials([_frozen(axes, result) for result in learned])
        chosen = study.ask(_space(axes)).params
    return {axis.name: _rounded(axis, chosen[axis.name]) for axis in axes}


def is_worse(search: SearchTable, axes: Sequence[Axis], results: Sequence[Result], own: Result) -> bool:
    """Whether a trial under way is worse than the median of the complete ones at its epoch.

    Those that stopped improving, and so were over before, count with the lowest error they came to.
    """
    if not own.by_epoch:
        return False
    last = max(own.by_epoch)
    complete = [_carried(result, last) for result in results if result.state == "done"]
    with _optuna() as optuna:
        pruner = optuna.pruners.MedianPruner(_STARTUP_TRIALS, search.warmup_epochs + 1)  # from epoch 1 on
        study = optuna.create_study(direction=search.direction)
        study.add_trials([_frozen(axes, result) for result in complete])
        return bool(pruner.prune(study, _frozen(axes, own)))


def _carried(result: Result, last: int) -> Result:
    """A complete trial with its lowest error at the epochs that it was not trained for."""
    if not result.by_epoch:
        return result
    lowest = min(result.by_epoch.values())
    later = range(max(result.by_epoch) + 1, last + 1)
    return result._replace(by_epoch={**result.by_epoch, **dict.fromkeys(later, lowest)})


def importances(
    search: SearchTable, axes: Sequence[Axis], results: Sequence[Result]
) -> dict[str, float | None]:
    """Each axis's share in what tells the best quarter of the trials from the others, by PED-ANOVA.

    Args:
        search: the search.
        axes: of the search.
        results: of its trials.

    Returns:
        Axis to its share, the largest first, or to None where that of a search without any effect may well
        be as large; empty where fewer than 20 trials are complete, all came to the same, or there is but one
        axis.

    Source: Watanabe et al. (IJCAI 2023).
    """
    complete = [result for result in results if result.state == "done"]
    is_little = len(complete) < _LEAST_COMPLETE or len(axes) < 2
    if is_little or len({result.value for result in complete}) < 2:
        return {}
    found = _importances(search, axes, complete)
    total = sum(found.values())
    if not total > 0:
        return {}
    chance = dict.fromkeys(found, 0.0)
    order = random.Random(search.seed)
    for _ in range(_SHUFFLES):
        values = order.sample([result.value for result in complete], len(complete))
        shuffled = [one._replace(value=value) for one, value in zip(complete, values, strict=True)]
        by_chance = _importances(search, axes, shuffled)
        chance = {axis: max(largest, by_chance[axis]) for axis, largest in chance.items()}
    shares = {axis: own / total if own > chance[axis] else None for axis, own in found.items()}
    return dict(sorted(shares.items(), key=lambda item: -found[item[0]]))


def _importances(search: SearchTable, axes: Sequence[Axis], results: Sequence[Result]) -> dict[str, float]:
    """Each axis's importance, whose sum is not 1; NaN where there is none."""
    with _optuna() as optuna:
        study = optuna.create_study(direction=search.direction)
        study.add_trials([_frozen(axes, result) for result in results])
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=_BEST)
        found: dict[str, float] = optuna.importance.get_param_importances(
            study, evaluator=evaluator, normalize=False
        )
    return found


class Study:
    """Optuna's study of a search, for `optuna.load_study` and its dashboard.

    Only one process at a time may `record`.

    Args:
        sweep: folder of the sweep.
        search: the search.
        axes: of the search.
    """

    def __init__(self, sweep: Path, search: SearchTable, axes: Sequence[Axis]) -> None:
        self._file = sweep / JOURNAL_FILE
        self._search, self._axes = search, axes

    def record(self, results: Sequence[Result]) -> str | None:
        """Add the trials that are over since.

        Returns:
            What the user should know: that a damaged journal was put aside and written anew.

        Raises:
            SweepError: it cannot be written.
        """
        trials = {result.trial.number: _frozen(self._axes, result) for result in results if result.is_over}
        try:
            _cut_torn_line(self._file)
            try:
                self._add(trials)
            except (ValueError, KeyError, TypeError, AttributeError):  # what Optuna raises for damage
                if not self._file.exists():
                    raise
                aside = self._file.with_name(f"{JOURNAL_FILE}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
                os.replace(self._file, aside)
                self._add(trials)
                return f"{self._file} was damaged and has been rebuilt; the old file is now {aside.name}."
        except OSError as error:
            raise SweepError(
                f"{self._file} cannot be written: {error.strerror or error}.",
                "Free disk space or make the folder writable, then run the same command again.",
            ) from error
        return None

    def _add(self, trials: Mapping[int, Any]) -> None:
        """Add the trials, by number, that the study lacks."""
        with _optuna() as optuna:
            journal = optuna.storages.journal
            path = str(self._file)
            lock = journal.JournalFileSymlinkLock(path, _LOCK_EXPIRES_S)
            study = optuna.create_study(
                storage=optuna.storages.JournalStorage(journal.JournalFileBackend(path, lock)),
                study_name=STUDY_NAME,
                direction=self._search.direction,
                load_if_exists=True,
            )
            there = {trial.user_attrs.get(_NUMBER): trial.state.name for trial in study.get_trials(False)}
            for number, trial in trials.items():
                if there.get(number) != trial.state.name:
                    study.add_trial(trial)


def _cut_torn_line(file: Path) -> None:
    """Cut off what comes after the last whole line."""
    if not file.exists():
        return
    content = file.read_bytes()
    if content and not content.endswith(b"\n"):
        os.truncate(file, content.rfind(b"\n") + 1)


@contextmanager
def _optuna() -> Iterator[Any]:
    """Optuna, without its log and without its warnings that parts of it are new."""
    check_optuna()
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield optuna
    finally:
        optuna.logging.set_verbosity(before)


def _space(axes: Sequence[Axis]) -> "dict[str, optuna.distributions.BaseDistribution]":
    import optuna.distributions as distributions

    space: dict[str, optuna.distributions.BaseDistribution] = {}
    for axis in axes:
        if axis.bounds is None:
            space[axis.name] = distributions.CategoricalDistribution([place.label for place in axis.places])
        elif axis.integer:
            low, high = map(int, axis.bounds)
            space[axis.name] = distributions.IntDistribution(low, high, log=axis.log)
        else:
            space[axis.name] = distributions.FloatDistribution(axis.bounds[0], axis.bounds[1], log=axis.log)
    return space


def _rounded(axis: Axis, value: Any) -> str | float:
    """A number in as many digits as one would write, within its range."""
    if axis.bounds is None or axis.integer:
        place: str | int = value
        return place
    low, high = axis.bounds
    return min(max(float(f"{value:.{_DIGITS}g}"), low), high)


def _frozen(axes: Sequence[Axis], result: Result) -> Any:
    """A trial as Optuna holds it; one under way is running."""
    import optuna

    states = optuna.trial.TrialState
    state = states[_STATES.get(result.state, "RUNNING")]
    runs = [point.folder for point in result.trial.points]
    error = {} if result.error is None else {"error": result.error}
    return optuna.trial.create_trial(
        state=state,
        value=result.value if state in (states.COMPLETE, states.PRUNED) else None,
        params=dict(result.trial.places),
        distributions=_space(axes),
        user_attrs={_NUMBER: result.trial.number, "runs": runs} | error,
        intermediate_values=dict(result.by_epoch),
    )
