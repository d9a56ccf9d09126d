"""Definitions of sweeps read from files and tables, written, and compared."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tomlkit
from pydantic import BaseModel, ValidationError

from hepcli.config.axes import Axis, AxisPoint
from hepcli.config.compare import flatten
from hepcli.config.extends import is_path
from hepcli.config.faults import describe, undecodable
from hepcli.config.presets import sweep_text
from hepcli.config.search import SearchTable
from hepcli.config.sweep import FigureView, Grid, SweepDefinition, SweepTable, TableView
from hepcli.config.toml_files import expanded, parse_tables, read_text
from hepcli.errors import ConfigError

SWEEP_FILE = "sweep.toml"
"""The definition in the folder of a sweep."""
_EXAMPLE = "sweeps/table1"
SEE_SWEEPS = f"Run `hep presets {_EXAMPLE}` to see a definition; `hep sweep --help` shows the options."


class NamedSweep(NamedTuple):
    """A definition and what to call it."""

    name: str
    definition: SweepDefinition


def load_sweep(sweep: str, search: Mapping[str, object] | None = None) -> NamedSweep:
    """Read a shipped sweep, or one of a file.

    Args:
        sweep: its name, or the path of a TOML file.
        search: entries on top of its [search] table, which make it a search; None for none.

    Returns:
        The definition and its name.

    Raises:
        ConfigError: there is no such sweep, or its definition is not allowed; every fault is named.
    """
    listed = sweep.removeprefix("sweeps/")  # as `hep presets` names them
    if sweep.endswith(".toml") or "/" in listed:
        path = expanded(sweep)
        label, name = str(path), path.stem
        tables = _with_whole_paths(parse_tables(read_text(path), label, _EXAMPLE), path.parent)
    else:
        label, name = f"sweep {listed}", listed
        tables = parse_tables(sweep_text(listed), label, _EXAMPLE)
    own = tables.get("search", {})
    if search is not None and isinstance(own, dict):
        tables = tables | {"search": own | dict(search)}
    return NamedSweep(name, check_sweep(tables, label))


def _with_whole_paths(tables: dict[str, Any], beside: Path) -> dict[str, Any]:
    """Presets that a definition names by a path start from its own folder, wherever workers start."""
    tables = copy.deepcopy(tables)
    grids = [tables, *_tables(tables.get("grid"))]
    axes = [axis for grid in grids for axis in _tables(grid.get("axis"))]
    places = [place for axis in axes for place in _tables(axis.get("points"))]
    for table in (tables.get("sweep"), *places):
        if isinstance(table, dict) and isinstance(preset := table.get("preset"), str) and is_path(preset):
            # As before where it is found from the working folder, as --preset is.
            result = beside / preset if (beside / preset).exists() else expanded(preset)
            table["preset"] = str(result.absolute())
    return tables


def _tables(entries: object) -> list[dict[str, Any]]:
    """The tables of an array of tables; what is none is for the check to name."""
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def parse_sweep(text: str, label: str) -> SweepDefinition:
    """Read a definition.

    Args:
        text: the TOML.
        label: what to call it in errors.

    Returns:
        The definition.

    Raises:
        ConfigError: it is not TOML, or not a definition; every fault is named.
    """
    return check_sweep(parse_tables(text, label, _EXAMPLE), label)


def check_sweep(tables: Mapping[str, Any], label: str) -> SweepDefinition:
    """Check tables against the models; raises ConfigError with every fault."""
    full = {"sweep": {}} | dict(tables)
    faults = list(undecodable(full))
    if not faults:
        try:
            return SweepDefinition.model_validate_json(json.dumps(full, default=str))
        except ValidationError as error:
            faults = list(dict.fromkeys(describe(error, full, _known_keys())))
    if len(faults) == 1:
        raise ConfigError(f"{label}: {faults[0]}", SEE_SWEEPS)
    lines = "".join(f"\n  {fault}" for fault in faults)
    raise ConfigError(f"{label}: {len(faults)} entries are not allowed:{lines}", SEE_SWEEPS)


def dump_sweep(definition: SweepDefinition) -> str:
    """Write a definition as TOML that `parse_sweep` reads back."""
    tables = definition.model_dump(mode="json", exclude_none=True)
    return "# The sweep of this folder; [table] and [figure] may be edited.\n\n" + tomlkit.dumps(tables)


def sweep_differences(a: SweepDefinition, b: SweepDefinition) -> list[tuple[str, object, object]]:
    """List in what the work of two sweeps differs: (entry, in a, in b); titles and views do not count.

    Nor do the folders of presets that are files: the points' hashes tell whether their contents are the same.
    """
    flat_a, flat_b = _work(a), _work(b)
    return [
        (key, flat_a.get(key), flat_b.get(key))
        for key in dict.fromkeys([*flat_a, *flat_b])
        if flat_a.get(key) != flat_b.get(key)
    ]


def _work(definition: SweepDefinition) -> dict[str, object]:
    sweep = definition.sweep
    work: dict[str, object] = {"preset": preset_name(sweep.preset), "seeds": list(sweep.seeds)}
    work |= flatten({"set": dict(sweep.set)})
    work |= {"exclude": [dict(one) for one in sweep.exclude]} if sweep.exclude else {}
    if definition.search is not None:
        work |= flatten({"search": definition.search.model_dump()})
    work |= {f"axis {axis.name}": _places(axis) for axis in definition.axis}
    for number, grid in enumerate(definition.grid, 1):
        work |= flatten({f"grid {number}.set": dict(grid.set)})
        work |= {f"grid {number}, axis {axis.name}": _places(axis) for axis in grid.axis}
    return work


def _places(axis: Axis) -> object:
    if axis.bounds is not None:
        return axis.model_dump(exclude_none=True)
    places = [place.model_dump(exclude_none=True) for place in axis.places]
    return [
        place | ({"preset": preset_name(place["preset"])} if "preset" in place else {}) for place in places
    ]


def preset_name(preset: str) -> str:
    """A preset's name, wherever its file lies."""
    return Path(preset).name if is_path(preset) else preset


def _known_keys() -> list[str]:
    keys = [*SweepDefinition.model_fields]
    tables: dict[str, type[BaseModel]] = {
        "sweep": SweepTable,
        "search": SearchTable,
        "grid": Grid,
        "table": TableView,
        "figure": FigureView,
    }
    for name, model in tables.items():
        keys += [f"{name}.{field}" for field in model.model_fields]
    return keys + [f"axis.{field}" for field in (*Axis.model_fields, *AxisPoint.model_fields)]
