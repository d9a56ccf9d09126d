"""The definition of a sweep: base preset, axes, seeds, and how to tabulate and plot what comes out."""

import itertools
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, field_validator, model_validator

from hepcli.config.compare import flatten
from hepcli.settings import STRICT, Fault, Faults, Seed, assigned, did_you_mean, show

FigureKind = Literal["lines", "bars", "curves"]
EPOCH = "epoch"
SEED_KEY = "run.seed"

_NonEmpty = Annotated[str, Field(min_length=1)]


class Table(BaseModel):
    """A table of a definition."""

    model_config = STRICT


_TABLES = ("run", "data", "network", "relaxation", "gradient", "homeostasis", "optimizer", "checkpoints")


def _dotted(settings: Any) -> Any:
    """TOML reads an unquoted relaxation.free_steps as a table in a table: it means that key alone."""
    if not isinstance(settings, Mapping):
        return settings
    inner = {
        name: table for name, table in settings.items() if name in _TABLES and isinstance(table, Mapping)
    }
    return {name: value for name, value in settings.items() if name not in inner} | flatten(inner)


Settings = Annotated[Mapping[str, Any], BeforeValidator(_dotted)]
"""Dotted keys to values."""


class AxisPoint(Table):
    """One place on an axis.

    Attributes:
        label: what tables and figures call it.
        preset: another base preset, instead of the sweep's.
        set: dotted keys to values, set together.
    """

    label: _NonEmpty
    preset: str | None = None
    set: Settings = Field(default_factory=dict)


class Axis(Table):
    """What is varied: the values of one key, or points that set several keys together.

    Attributes:
        name: what tables and figures call it.
        key: dotted key of the values.
        values: of the key.
        points: instead of key and values.
    """

    name: _NonEmpty
    key: str | None = None
    values: tuple[Any, ...] | None = None
    points: tuple[AxisPoint, ...] | None = None

    @model_validator(mode="after")
    def _check(self) -> "Axis":
        by_key, by_points = self.key is not None and self.values is not None, self.points is not None
        if by_key == by_points or (by_points and (self.key is not None or self.values is not None)):
            raise Faults([Fault(f"axis {self.name}", "must have either key and values, or points")])
        if not self.places:
            raise Faults([Fault(f"axis {self.name}", "is empty; give it at least one value")])
        return self

    @property
    def places(self) -> tuple[AxisPoint, ...]:
        """The points of the axis, those of a single key labelled by their value."""
        if self.points is not None:
            return self.points
        return tuple(
            AxisPoint(label=label_of(value), set={str(self.key): value}) for value in self.values or ()
        )

    @property
    def keys(self) -> frozenset[str]:
        """The dotted keys that the axis sets."""
        return frozenset(key for place in self.places for key in place.set)


class SweepTable(Table):
    """The [sweep] table.

    Attributes:
        title: above table and figure.
        preset: name or path of the base preset.
        seeds: a run for each, at every point of the grid.
        set: dotted keys to values for all runs, where no axis sets them.
        exclude: combinations that are left out, axis to label; axes that are not named take any label.
    """

    title: str = ""
    preset: str
    seeds: tuple[Seed, ...] = (0,)
    set: Settings = Field(default_factory=dict)
    exclude: tuple[Mapping[str, str], ...] = ()

    def excludes(self, labels: Mapping[str, str]) -> bool:
        """Tell whether the combination of these labels, axis to label, is left out."""
        return any(all(labels[axis] == label for axis, label in one.items()) for one in self.exclude)

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        twice = [seed for seed, count in Counter(seeds).items() if count > 1]
        problems = [Fault("sweep.seeds", f"{seed} is given twice") for seed in twice]
        if not seeds:
            problems.append(Fault("sweep.seeds", "is empty; give at least one seed"))
        if problems:
            raise Faults(problems)
        return seeds


class TableView(Table):
    """How to tabulate.

    Attributes:
        rows: axes down the side.
        columns: axes across the top.
        value: `test_error`, `train_error`, `validation_error` or `selected_test_error` (%; of the epoch that
            was best on the validation examples), or a dotted key of summary.json.
    """

    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    value: _NonEmpty = "test_error"


class FigureView(Table):
    """What to plot.

    Attributes:
        kind: `lines` and `bars` of the means with error bars, or `curves` over the epochs.
        x: axis along the bottom; `epoch` for curves.
        y: values as [table] takes them, or with curves dotted keys of metrics.jsonl; a panel each.
        series: axes whose points become lines or bars of their own.
        facet: axis whose points get panels of their own, side by side.
    """

    kind: FigureKind
    x: str | None = None
    y: tuple[_NonEmpty, ...] = ("test_error",)
    series: tuple[str, ...] = ()
    facet: str | None = None


class SweepDefinition(Table):
    """A sweep: every point of the product of the axes, with every seed."""

    sweep: SweepTable
    axis: tuple[Axis, ...] = ()
    table: TableView | None = None
    figure: FigureView | None = None

    @model_validator(mode="after")
    def _check_across(self) -> "SweepDefinition":
        names = [axis.name for axis in self.axis]
        problems = [
            Fault(f"axis {name}", "there are two axes of that name")
            for name in [name for name, count in Counter(names).items() if count > 1]
        ]
        problems += _key_problems(self.axis, self.sweep.set) + _label_problems(self.axis)
        problems += _exclude_problems(self.axis, self.sweep)
        problems += _view_problems(names, self.table, self.figure)
        if problems:
            raise Faults(problems)
        return self


def label_of(value: object) -> str:
    """A value of a key as tables show it: text without quotes."""
    return value if isinstance(value, str) else show(value)


def _key_problems(axes: tuple[Axis, ...], fixed: Mapping[str, Any]) -> list[Fault]:
    """No key may be set in vain, or by two axes; seeds are no axis.

    What is set for all runs holds where the places of an axis leave it open.
    """
    problems = []
    owners: dict[str, str] = {}
    for axis in axes:
        for key in sorted(axis.keys):
            if key in fixed and all(key in place.set for place in axis.places):
                rule = f"cannot be overridden: axis {axis.name} already sets this key"
                problems.append(Fault(assigned(key, fixed[key]), rule))
            if key in owners:
                problems.append(Fault(f"axis {axis.name}", f"{key} is set by {owners[key]} as well"))
            owners[key] = f"axis {axis.name}"
    if SEED_KEY in owners or SEED_KEY in fixed:
        problems.append(Fault(SEED_KEY, "is what seeds are for: sweep.seeds, --seeds"))
    return problems


def _label_problems(axes: tuple[Axis, ...]) -> list[Fault]:
    problems = []
    for axis in axes:
        counts = Counter(place.label for place in axis.places)
        twice = [label for label, count in counts.items() if count > 1]
        problems += [Fault(f"axis {axis.name}", f"{label} is given twice") for label in twice]
    return problems


def _exclude_problems(axes: tuple[Axis, ...], sweep: SweepTable) -> list[Fault]:
    """What is left out must name axes and labels, and must not be everything."""
    labels = {axis.name: [place.label for place in axis.places] for axis in axes}
    problems = []
    for one in sweep.exclude:
        for name, label in one.items():
            if name not in labels:
                rule = f"there is no such axis{did_you_mean(name, labels)}"
                problems.append(Fault(assigned("sweep.exclude", name), rule))
            elif label not in labels[name]:
                rule = f"axis {name} has no such label{did_you_mean(label, labels[name])}"
                problems.append(Fault(assigned("sweep.exclude", label), rule))
    if not problems and sweep.exclude:
        combinations = itertools.product(*labels.values())
        if all(sweep.excludes(dict(zip(labels, one, strict=True))) for one in combinations):
            problems.append(Fault("sweep.exclude", "leaves out every combination"))
    return problems


def _view_problems(names: list[str], table: TableView | None, figure: FigureView | None) -> list[Fault]:
    """Views name axes; a table needs all of them, each once, lest a cell mixes conditions."""
    problems = []

    def check(key: str, name: str) -> None:
        if name not in names:
            problems.append(Fault(assigned(key, name), f"there is no such axis{did_you_mean(name, names)}"))

    if table is not None:
        for key, used in (("table.rows", table.rows), ("table.columns", table.columns)):
            for name in used:
                check(key, name)
        if missing := [name for name in names if (*table.rows, *table.columns).count(name) != 1]:
            problems.append(Fault("table", f"rows and columns must name axis {missing[0]} once"))
    if figure is not None:
        for name in figure.series:
            check("figure.series", name)
        if figure.facet is not None:
            check("figure.facet", figure.facet)
        if figure.x is not None and figure.kind != "curves":
            check("figure.x", figure.x)
        if figure.kind == "curves" and figure.x not in (None, EPOCH):
            problems.append(Fault(assigned("figure.x", figure.x), f'curves are over "{EPOCH}"'))
    return problems
