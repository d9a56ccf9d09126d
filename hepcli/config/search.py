"""The [search] table of a sweep: points that are chosen one after the other."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from hepcli.config.axes import Axis, NonEmpty, Table
from hepcli.config.values import value_faults
from hepcli.settings import Fault, Seed, assigned

VALIDATION_ERROR = "validation_error"
_OBJECTIVES = (VALIDATION_ERROR, "train_error", "images_per_second", "training_seconds", "weight_angle_deg")
_LARGE = ("top1", "top5", "settled", "nudged_settled")
_OBJECTIVE_TABLES = ("train.", "selection.validation.")


class SearchTable(Table):
    """Each point is chosen by what came of those before, with Optuna.

    Attributes:
        sampler: `tpe` (tree-structured Parzen estimator), `random`, or `grid`, which takes the combinations
            of values in order.
        trials: how many points are tried, each with every seed of the sweep.
        objective: `validation_error` (%, of the epoch with the lowest), `train_error` (%), or a dotted key of
            summary.json; its mean over the seeds. Nothing that was measured on the test split.
        direction: whether the objective is to be small or large; large by default for accuracies, shares of
            settled examples and speed, small for others.
        pruner: `median` ends a trial whose lowest validation error so far is above the median of the others'
            at that epoch, once five are complete; `none` ends none. Needs `validation_error` and one seed.
        warmup_epochs: before the pruner looks.
        seed: of the sampler.
    """

    sampler: Literal["random", "tpe", "grid"] = "tpe"
    trials: Annotated[int, Field(ge=1, le=100_000)]
    objective: NonEmpty = VALIDATION_ERROR
    direction: Literal["minimize", "maximize"]
    pruner: Literal["none", "median"] = "none"
    warmup_epochs: Annotated[int, Field(ge=0, le=100_000)] = 0
    seed: Seed = 0

    @model_validator(mode="before")
    @classmethod
    def _choose_direction(cls, table: Any) -> Any:
        if not isinstance(table, Mapping) or table.get("direction") is not None:
            return table
        objective = str(table.get("objective", VALIDATION_ERROR))
        is_large = objective == "images_per_second" or objective.rpartition(".")[2] in _LARGE
        return {**table, "direction": "maximize" if is_large else "minimize"}


def search_faults(
    search: SearchTable | None, axes: Sequence[Axis], seeds: Sequence[int], others: Sequence[str]
) -> list[Fault]:
    """Ranges need a search; a search needs something to search, and an honest objective.

    Args:
        search: the table; None without.
        axes: of the sweep.
        seeds: of the sweep.
        others: entries of the definition that go with no search.

    Returns:
        The faults.
    """
    ranges = [axis for axis in axes if axis.bounds is not None]
    if search is None:
        rule = "a range needs a search: add a [search] table or --search trials=30"
        return [Fault(f"axis {axis.name}", rule) for axis in ranges]
    faults = [Fault(name, "cannot be combined with [search]") for name in others]
    if not axes:
        faults.append(Fault("search", "there is no axis to search"))
    if search.sampler == "grid":
        faults += [Fault(f"axis {axis.name}", "sampler grid needs values, not a range") for axis in ranges]
    size = math.prod(map(_size, axes))
    if axes and search.trials > size:
        rule = f"there are only {size:g} points to try"
        faults.append(Fault(assigned("search.trials", search.trials), rule))
    if search.objective not in _OBJECTIVES and not search.objective.startswith(_OBJECTIVE_TABLES):
        rule = f"must be one of {', '.join(_OBJECTIVES)}, or begin with {' or '.join(_OBJECTIVE_TABLES)}"
        rule += "; nothing is selected on test data"
        faults.append(Fault(assigned("search.objective", search.objective), rule))
    else:
        faults += value_faults("search.objective", [search.objective])
    is_followed = search.objective == VALIDATION_ERROR and search.direction == "minimize"
    if search.pruner != "none" and not (is_followed and len(seeds) == 1):
        rule = f"needs objective {VALIDATION_ERROR}, direction minimize and a single seed"
        faults.append(Fault(assigned("search.pruner", search.pruner), rule))
    return faults


def _size(axis: Axis) -> float:
    """How many places there are on an axis."""
    if axis.bounds is None:
        return len(axis.places)
    return axis.bounds[1] - axis.bounds[0] + 1 if axis.integer else math.inf
