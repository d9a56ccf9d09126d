"""The definition of a sweep: base preset, axes, seeds, and how to tabulate and plot what comes out."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from hepcli.config.axes import Axis, AxisPoint, NonEmpty, Settings, Table
from hepcli.config.search import SearchTable, search_faults
from hepcli.config.values import value_faults
from hepcli.settings import Fault, Faults, Seed, assigned, did_you_mean

FigureKind = Literal["lines", "bars", "curves"]
EPOCH = "epoch"
SEED_KEY = "run.seed"
ABSENT = "–"
"""The label of what has no place on an axis: in a union of grids, or a run without such a key."""


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
        faults = [Fault("sweep.seeds", f"{seed} is given twice") for seed in twice]
        if not seeds:
            faults.append(Fault("sweep.seeds", "is empty; give at least one seed"))
        if faults:
            raise Faults(faults)
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
    value: NonEmpty = "test_error"


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
    y: tuple[NonEmpty, ...] = ("test_error",)
    series: tuple[str, ...] = ()
    facet: str | None = None


class Grid(Table):
    """One of several grids that make a sweep together.

    Attributes:
        set: dotted keys to values, for all of its points.
        axis: its own axes, behind those that all grids share.
    """

    set: Settings = Field(default_factory=dict)
    axis: tuple[Axis, ...] = ()


class SweepDefinition(Table):
    """A sweep: every point of the product of the axes, with every seed; or a search among them.

    Attributes:
        sweep: what all points share.
        search: how points are chosen; None for all of them.
        axis: what is varied; with `grid`, in every one of them.
        grid: products that are united; a point of several of them is taken once.
        table: how to tabulate; None for what suits the axes.
        figure: what to plot; None for the same.
    """

    sweep: SweepTable
    search: SearchTable | None = None
    axis: tuple[Axis, ...] = ()
    grid: tuple[Grid, ...] = ()
    table: TableView | None = None
    figure: FigureView | None = None

    @model_serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is not there is left out: older sweeps are written, and so named, as they were."""
        return {key: value for key, value in write(self).items() if value or key not in ("search", "grid")}

    @model_validator(mode="after")
    def _check_across(self) -> "SweepDefinition":
        faults = []
        for grid in self.grids:
            names = Counter(axis.name for axis in grid.axis)
            twice = [name for name, count in names.items() if count > 1]
            faults += [Fault(f"axis {name}", "there are two axes with that name") for name in twice]
            faults += _key_faults(grid.axis, {**self.sweep.set, **grid.set}) + _label_faults(grid.axis)
        faults += _exclude_faults(self)
        faults += _view_faults(self.labels, self.table, self.figure)
        faults += self._search_faults()
        if faults:
            raise Faults(list(dict.fromkeys(faults)))
        return self

    def _search_faults(self) -> list[Fault]:
        views = {"table": self.table, "figure": self.figure, "grid": self.grid, "exclude": self.sweep.exclude}
        axes = [axis for grid in self.grids for axis in grid.axis]
        return search_faults(self.search, axes, self.sweep.seeds, [name for name in views if views[name]])

    @property
    def grids(self) -> tuple[Grid, ...]:
        """The products that make up the sweep, each with all of its axes."""
        if not self.grid:
            return (Grid(axis=self.axis),)
        return tuple(Grid(set=grid.set, axis=(*self.axis, *grid.axis)) for grid in self.grid)

    @property
    def labels(self) -> dict[str, list[str]]:
        """Axis to its labels, in order; with `ABSENT` where a grid of a union lacks the axis."""
        grids = [{axis.name: axis for axis in grid.axis} for grid in self.grids]
        names = dict.fromkeys(name for grid in grids for name in grid)
        return {
            name: list(
                dict.fromkeys(
                    label
                    for grid in grids
                    for label in ([p.label for p in grid[name].places] if name in grid else [ABSENT])
                )
            )
            for name in names
        }

    def combinations(self) -> Iterator[tuple[dict[str, str], tuple[AxisPoint, ...]]]:
        """The places on the axes that come together, with axis to label; those excluded are left out."""
        nowhere = dict.fromkeys(self.labels, ABSENT)
        for grid in self.grids:
            own = (AxisPoint(label=ABSENT, set=grid.set),) if grid.set else ()
            for places in itertools.product(*(axis.places for axis in grid.axis)):
                here = {axis.name: place.label for axis, place in zip(grid.axis, places, strict=True)}
                labels = nowhere | here
                if not self.sweep.excludes(labels):
                    yield labels, (*own, *places)


def _key_faults(axes: tuple[Axis, ...], fixed: Mapping[str, Any]) -> list[Fault]:
    """No key may be set in vain, or by two axes; seeds are no axis.

    What is set for all runs holds where the places of an axis leave it open.
    """
    faults = []
    owners: dict[str, str] = {}
    for axis in axes:
        for key in sorted(axis.keys):
            if key in fixed and all(key in place.set for place in axis.places):
                rule = f"cannot be overridden: axis {axis.name} already sets this key"
                faults.append(Fault(assigned(key, fixed[key]), rule))
            if key in owners:
                faults.append(Fault(f"axis {axis.name}", f"{key} is set by {owners[key]} as well"))
            owners[key] = f"axis {axis.name}"
    if SEED_KEY in owners or SEED_KEY in fixed:
        faults.append(Fault(SEED_KEY, "cannot be set or varied here; use sweep.seeds or --seeds"))
    return faults


def _label_faults(axes: tuple[Axis, ...]) -> list[Fault]:
    faults = []
    for axis in axes:
        counts = Counter(place.label for place in axis.places)
        twice = [label for label, count in counts.items() if count > 1]
        faults += [Fault(f"axis {axis.name}", f"{label} is given twice") for label in twice]
    return faults


def _exclude_faults(definition: SweepDefinition) -> list[Fault]:
    """What is left out must name axes and labels, and must not be everything."""
    labels, exclude = definition.labels, definition.sweep.exclude
    faults = []
    for one in exclude:
        for name, label in one.items():
            if name not in labels:
                rule = f"there is no such axis{did_you_mean(name, labels)}"
                faults.append(Fault(assigned("sweep.exclude", name), rule))
            elif label not in labels[name]:
                rule = f"axis {name} has no such label{did_you_mean(label, labels[name])}"
                faults.append(Fault(assigned("sweep.exclude", label), rule))
    if not faults and exclude and not any(definition.combinations()):
        faults.append(Fault("sweep.exclude", "leaves out every combination"))
    return faults


def _view_faults(
    axes: Mapping[str, list[str]], table: TableView | None, figure: FigureView | None
) -> list[Fault]:
    """Views name axes and values; both need all axes, a table each of them once, lest they mix conditions."""
    faults, names = [], list(axes)

    def check(key: str, name: str) -> None:
        if name not in names:
            faults.append(Fault(assigned(key, name), f"there is no such axis{did_you_mean(name, names)}"))

    if table is not None:
        for key, used in (("table.rows", table.rows), ("table.columns", table.columns)):
            for name in used:
                check(key, name)
        if missing := [name for name in names if (*table.rows, *table.columns).count(name) != 1]:
            faults.append(Fault("table", f"rows and columns must name axis {missing[0]} exactly once"))
        faults += value_faults("table.value", [table.value])
    if figure is not None:
        faults += value_faults("figure.y", figure.y, over_epochs=figure.kind == "curves")
        for name in figure.series:
            check("figure.series", name)
        if figure.facet is not None:
            check("figure.facet", figure.facet)
        if figure.x is not None and figure.kind != "curves":
            check("figure.x", figure.x)
        if figure.kind == "curves" and figure.x not in (None, EPOCH):
            faults.append(Fault(assigned("figure.x", figure.x), f'must be "{EPOCH}" for curves'))
        shown, where = {*figure.series, figure.facet}, "series or facet"
        if figure.kind != "curves":
            shown, where = shown | {figure.x}, f"x, {where}"
        if missing := [name for name in names if len(axes[name]) > 1 and name not in shown]:
            rule = f"{where} must name axis {missing[0]}, or means would be taken across its points"
            faults.append(Fault("figure", rule))
    return faults
