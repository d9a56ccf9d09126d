"""The conditions of a sweep: their values over the seeds, and how far they are from one of them."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from hepcli.errors import ConfigError
from hepcli.experiments.sweeps.collect import Collection, value_in_summary
from hepcli.settings import did_you_mean

CONFIDENCE = 0.95


class Cell(NamedTuple):
    """One condition.

    Attributes:
        labels: axis to label.
        values: by seed, of the finished runs that have one.
        runs: number of runs, finished or not.
    """

    labels: dict[str, str]
    values: dict[int, float]
    runs: int

    @property
    def mean(self) -> float | None:
        """Mean over the seeds; None without any."""
        return statistics.fmean(self.values.values()) if self.values else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation over the seeds; None for fewer than two."""
        return statistics.stdev(self.values.values()) if len(self.values) > 1 else None


class Difference(NamedTuple):
    """One condition minus another, paired by seed.

    Attributes:
        labels: axis to label.
        mean: over the seeds that both have.
        low, high: of its confidence interval (paired t); None for fewer than two seeds.
        seeds: those that both have.
    """

    labels: dict[str, str]
    mean: float
    low: float | None
    high: float | None
    seeds: tuple[int, ...]


class Place(NamedTuple):
    """A label on an axis."""

    axis: str
    label: str


def cells_of(result: Collection, value: str) -> list[Cell]:
    """The conditions in the order of the axes, with the values of their finished runs."""
    cells: dict[tuple[str, ...], Cell] = {}
    for outcome in result.outcomes:
        key = tuple(outcome.labels.values())
        cell = cells.setdefault(key, Cell(outcome.labels, {}, 0))
        number = value_in_summary(outcome, value)
        values = cell.values if number is None else cell.values | {outcome.seed: number}
        cells[key] = Cell(cell.labels, values, cell.runs + 1)
    order = {name: {label: at for at, label in enumerate(labels)} for name, labels in result.axes.items()}
    return sorted(cells.values(), key=lambda c: [order[name][label] for name, label in c.labels.items()])


def place_of(result: Collection, text: str) -> Place:
    """The place that a text names.

    Args:
        result: the sweep.
        text: a label, or AXIS=LABEL where several axes have it.

    Raises:
        ConfigError: there is none, or there are several.
    """
    places = [Place(axis, label) for axis, labels in result.axes.items() for label in labels]
    found = [place for place in places if text in (place.label, f"{place.axis}={place.label}")]
    if len(found) == 1:
        return found[0]
    if found:
        every = " or ".join(f"--against '{place.axis}={place.label}'" for place in found)
        raise ConfigError(f"--against {text}: several axes have this label.", f"Write {every}.")
    known = [place.label for place in places]
    raise ConfigError(
        f"--against {text}: there is no such place on an axis{did_you_mean(text, known) or '.'}",
        f"Choose one of: {', '.join(known)}." if known else "There are no axes.",
    )


def differences_from(cells: Sequence[Cell], place: Place) -> list[Difference]:
    """Each condition minus the one that shares its labels but for `place`, over the seeds that both have.

    A condition without such seeds has no difference.
    """
    bases = {_others(cell, place.axis): cell for cell in cells if cell.labels[place.axis] == place.label}
    found = []
    for cell in cells:
        base = bases.get(_others(cell, place.axis))
        if base is None or base is cell:
            continue
        seeds = tuple(sorted(cell.values.keys() & base.values.keys()))
        if seeds:
            found.append(_difference(cell, base, seeds))
    return found


def _others(cell: Cell, axis: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, label) for name, label in cell.labels.items() if name != axis)


def _difference(cell: Cell, base: Cell, seeds: tuple[int, ...]) -> Difference:
    gaps = [cell.values[seed] - base.values[seed] for seed in seeds]
    mean = statistics.fmean(gaps)
    if len(gaps) < 2:
        return Difference(cell.labels, mean, None, None, seeds)
    from scipy.stats import t as student  # takes half a second

    spread = statistics.stdev(gaps) / len(gaps) ** 0.5
    half = float(student.ppf((1 + CONFIDENCE) / 2, len(gaps) - 1)) * spread
    return Difference(cell.labels, mean, mean - half, mean + half, seeds)
