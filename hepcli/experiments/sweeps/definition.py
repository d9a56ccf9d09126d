"""What a sweep is asked for, and the definition that comes of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hepcli.code import code_settings, load_code
from hepcli.config import (
    NamedSweep,
    SweepDefinition,
    check_sweep,
    config_error,
    flatten,
    label_of,
    load_config,
    load_sweep,
    parse_search,
    parse_seeds,
    parse_vary,
    read_settings,
    take_over,
    tell_apart,
)
from hepcli.errors import ConfigError
from hepcli.experiments.figures.style import FigureFormat
from hepcli.experiments.sources import INIT_KEY, absolute_source
from hepcli.experiments.sweeps.points import absolute_preset


class SweepRequest(NamedTuple):
    """What the command line asks for.

    Attributes:
        sweep: name or path of a definition; None with `preset`.
        preset: base preset of a sweep from options.
        vary: --vary texts.
        seeds: --seeds text; None for those of the definition.
        overrides: KEY=VALUE texts, for all runs.
        epochs: of all runs; None for those of the preset.
        out: sweep folder; None for sweeps/<name>.
        jobs: workers at a time.
        resume: go on with a sweep that is there; its failed points get new attempts.
        together: train points of one compiled program together.
        shard: I/N text; None for all points.
        data_dir: where data sets are kept; None for the default folder.
        figure_format: of the figure it ends in.
        code: files with own components; the sweep keeps copies.
        search: --search text, on top of the [search] of the definition.
        fail_fast: stop at the first point that fails for good.
        reuse: where finished runs of the same configuration may lie, to be copied.
    """

    sweep: str | None = None
    preset: str | None = None
    vary: Sequence[str] = ()
    seeds: str | None = None
    overrides: Sequence[str] = ()
    epochs: int | None = None
    out: Path | None = None
    jobs: int = 1
    resume: bool = False
    together: bool = False
    shard: str | None = None
    data_dir: Path | None = None
    figure_format: FigureFormat = "png"
    code: Sequence[Path] = ()
    search: str | None = None
    fail_fast: bool = False
    reuse: Sequence[Path] = ()


def definition_of(request: SweepRequest, *, finds_sources: bool = True) -> tuple[NamedSweep, tuple[str, ...]]:
    """The definition of a request, options on top of what a file says, and what they took over from axes.

    With `finds_sources` the paths of weights that runs begin with are made absolute, as those of presets are:
    whoever joins the sweep may work in another folder.
    """
    code = load_code(request.code)  # presets and sweeps may name what it registers
    if (request.sweep is None) == (request.preset is None):
        raise ConfigError(
            "give either SWEEP or --preset with --vary.",
            "Write hep sweep table1, or hep sweep --preset fashion-mnist --vary gradient.num_points=1,2.",
        )
    search = None if request.search is None else parse_search(request.search)
    if request.sweep is not None:
        name, base = load_sweep(request.sweep, search)
        tables = base.model_dump(mode="json", exclude_none=True)
    else:
        resolved = load_config(request.preset)
        name, numbers = resolved.preset, flatten(resolved.config.model_dump(mode="json"))
        tables = {"sweep": {"preset": request.preset}, "axis": []}
    axes = [parse_vary(text) for text in request.vary]
    tell_apart(axes)
    if request.sweep is not None and axes:
        raise ConfigError(
            f"--vary cannot be added to {request.sweep}.",
            "Copy its TOML file and add an [[axis]] to the copy.",
        )
    for axis in axes:  # 0..1 is what its key is: a range of real numbers, or of whole ones
        if axis.get("integer") and isinstance(numbers.get(axis["key"]), float):
            axis["integer"] = False
    tables["axis"] = [*tables["axis"], *axes]
    settings, faults = read_settings(request.overrides, {"run.epochs": request.epochs})
    if faults:
        raise config_error(faults)
    notes = take_over(tables, settings)
    table = tables["sweep"]
    table["set"] = {**table.get("set", {}), **settings, **code_settings(code)}
    table["preset"] = absolute_preset(table["preset"])
    if finds_sources:
        _find_sources(tables)
    if search is not None and request.sweep is None:
        tables["search"] = search
    if request.seeds is not None:
        table["seeds"] = list(parse_seeds(request.seeds))
    label = "the sweep" if request.sweep is None else f"sweep {request.sweep}"
    definition = check_sweep(tables, label)
    own_name = name if request.sweep is not None else _folder_name(name, definition)
    return NamedSweep(own_name, definition), notes


def _find_sources(tables: dict[str, Any]) -> None:
    """Make the paths of weights to begin with absolute; raises CheckpointError where there are none."""
    axes = [*tables["axis"], *(axis for grid in tables.get("grid") or () for axis in grid["axis"])]
    for axis in axes:
        if axis.get("key") == INIT_KEY and axis.get("values"):
            places = [{"label": label_of(value), "set": {INIT_KEY: value}} for value in axis.pop("values")]
            axis |= {"key": None, "points": places}
    places = [place for axis in axes for place in axis.get("points") or ()]
    for settings in (tables["sweep"]["set"], *(place.get("set") or {} for place in places)):
        if isinstance(source := settings.get(INIT_KEY), str) and source:
            settings[INIT_KEY] = absolute_source(source)


def _folder_name(preset: str, definition: SweepDefinition) -> str:
    """Name a sweep from options by what it varies, the same for the same options."""
    import hashlib

    content = definition.model_dump_json(exclude={"table", "figure"})
    return f"{preset}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
