"""The conditions of a sweep: their values over the seeds, and how far they are from one of them."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from hepcli.config import ABSENT
from hepcli.errors import ConfigError
from hepcli.experiments.figures.captions import assigned_symbol, shown_label
from hepcli.experiments.sweeps.collection import Collection, value_in_summary
from hepcli.settings import did_you_mean

CONFIDENCE = 0.95


class Cell(NamedTuple):
    """One condition.

    Attributes:
        labels: axis to label.
        values: by seed, of the finished runs that have one.
        runs: number of runs, finished or not.
        failed: of these, those that failed.
    """

    labels: dict[str, str]
    values: dict[int, float]
    runs: int
    failed: int

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
        runs: number of runs of this condition, finished or not.
    """

    labels: dict[str, str]
    mean: float
    low: float | None
    high: float | None
    seeds: tuple[int, ...]
    runs: int


class Place(NamedTuple):
    """A label on an axis."""

    axis: str
    label: str


def cells_of(result: Collection, value: str) -> list[Cell]:
    """The conditions in the order of the axes, with the values of their finished runs."""
    cells: dict[tuple[str, ...], Cell] = {}
    for outcome in result.outcomes:
        key = tuple(outcome.labels.values())
        cell = cells.setdefault(key, Cell(outcome.labels, {}, 0, 0))
        number = value_in_summary(outcome, value)
        values = cell.values if number is None else cell.values | {outcome.seed: number}
        failed = cell.failed + (outcome.state == "failed")
        cells[key] = Cell(cell.labels, values, cell.runs + 1, failed)
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
    found = [place for place in places if text in _names(place)]
    if len(found) == 1:
        return found[0]
    if found:
        every = " or ".join(f"--against '{place.axis}={place.label}'" for place in found)
        raise ConfigError(f"--against {text}: several axes have this label.", f"Write {every}.")
    known = [place.label for place in places]
    raise ConfigError(
        f"--against {text}: no axis has this label{did_you_mean(text, known) or '.'}",
        f"Choose one of: {', '.join(known)}." if known else "There are no axes.",
    )


def _names(place: Place) -> tuple[str, ...]:
    """What a place may be called: as definitions write it, and as tables show it."""
    axis, label = place
    return (label, f"{axis}={label}", shown_label(label), assigned_symbol(axis, label))


def differences_from(cells: Sequence[Cell], place: Place) -> list[Difference]:
    """Each condition minus the one at `place` that shares its other labels, over the seeds that both have.

    In a union of grids the reference may lack the axes of other grids; it then serves for all their labels,
    where no reference has them. A condition without such seeds has no difference.

    Raises:
        ConfigError: none has any.
    """
    bases = [cell for cell in cells if cell.labels[place.axis] == place.label]
    found = []
    for cell in cells_beside(cells, place):
        fitting = [base for base in bases if _is_base(base, cell, place.axis)]
        base = min(fitting, key=lambda base: list(base.labels.values()).count(ABSENT), default=None)
        if base is not None and (seeds := tuple(sorted(cell.values.keys() & base.values.keys()))):
            found.append(_difference(cell, base, seeds))
    if not found:
        raise ConfigError(
            f"--against {place.label}: no other condition has a finished run with the same seed.",
            "Choose another label, or finish more runs.",
        )
    return found


def cells_beside(cells: Sequence[Cell], place: Place) -> list[Cell]:
    """The conditions at other places on its axis."""
    return [cell for cell in cells if cell.labels[place.axis] != place.label]


def _is_base(base: Cell, cell: Cell, axis: str) -> bool:
    return all(base.labels[name] in (label, ABSENT) for name, label in cell.labels.items() if name != axis)


def _difference(cell: Cell, base: Cell, seeds: tuple[int, ...]) -> Difference:
    gaps = [cell.values[seed] - base.values[seed] for seed in seeds]
    mean, half = statistics.fmean(gaps), half_interval(gaps)
    if half is None:
        return Difference(cell.labels, mean, None, None, seeds, cell.runs)
    return Difference(cell.labels, mean, mean - half, mean + half, seeds, cell.runs)


def half_interval(values: Sequence[float]) -> float | None:
    """Half the width of the confidence interval of their mean (Student's t); None for fewer than two."""
    if len(values) < 2:
        return None
    from scipy.stats import t as student  # takes half a second

    half: float = student.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * statistics.stdev(values)
    return float(half / len(values) ** 0.5)
