"""The points of a sweep that is asked for, resolved and checked before anything is written."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from hepcli.code import check_same, load_code
from hepcli.config import SWEEP_FILE, SweepDefinition, flatten, needed_by, parse_shard
from hepcli.errors import ConfigError
from hepcli.experiments.notices import method_notices
from hepcli.experiments.sweeps.collection import notes_of_training
from hepcli.experiments.sweeps.definition import SweepRequest, definition_of
from hepcli.experiments.sweeps.folder import POINTS_FILE, SweepFolder, code_table
from hepcli.experiments.sweeps.joining import check_definition, check_points
from hepcli.experiments.sweeps.points import Point, expand, probe, resolve
from hepcli.experiments.sweeps.reuse import find_reusable
from hepcli.experiments.sweeps.study import check_optuna


class Plan(NamedTuple):
    """What a request comes to.

    Attributes:
        folder: of the sweep.
        definition: of the sweep.
        points: all of its points; of a search some that try every place on its axes.
        own: those of the shard.
        notes: what the user should know of it.
        reused: finished run folders to copy, by the hash of the point.
    """

    folder: Path
    definition: SweepDefinition
    points: list[Point]
    own: list[Point]
    notes: tuple[str, ...] = ()
    reused: Mapping[str, Path] = MappingProxyType({})


def plan(request: SweepRequest) -> Plan:
    """Resolve a request to its points; nothing is written.

    Args:
        request: what is asked for; to resume a sweep its folder says enough.

    Returns:
        The plan.

    Raises:
        CheckpointError: there are no weights where runs should take some from.
        CodeError: a file with own components is missing, has changed or cannot be loaded.
        ConfigError: anything in it that is not allowed, the folder is of another sweep, or no finished run
            is where some should be reused.
        DatasetError: a run might be reused, and its data set is missing or damaged.
        SweepError: Optuna is missing, or the points that are there are damaged.
    """
    index, number = (0, 1) if request.shard is None else parse_shard(request.shard)
    is_own = request.resume and request.sweep is None and request.preset is None
    if is_own:
        if request.out is None:
            raise ConfigError("--resume needs the folder of the sweep.", "Run: hep sweep --resume --out DIR")
        request = request._replace(sweep=str(_file_of(request.out)))
    (name, definition), notes = definition_of(request, finds_sources=not is_own)
    folder = request.out or Path("sweeps") / name
    _check_code(request, folder)
    points = _points_of(definition, request)
    if request.resume:
        _file_of(folder)
    own = SweepFolder(folder)
    if own.holds_sweep:
        check_definition(own, definition, extend=request.resume)
        if definition.search is None and (own.path / POINTS_FILE).exists():
            check_points(own, points)
    shard = points[index::number]
    reused = find_reusable(own, shard, request.reuse, request.data_dir)
    methods = [] if definition.search is not None else _notes_of_methods(points)
    return Plan(folder, definition, points, shard, (*notes, *reused.notes, *methods), reused.runs)


def _notes_of_methods(points: Sequence[Point]) -> list[str]:
    """What runs would say of their methods, before they are trained."""
    notices: dict[str, list[str]] = {}
    summaries = []
    for point in points:
        combination = str(point.labels)  # which is the same for all seeds
        if combination not in notices:
            notices[combination] = method_notices(resolve(point).config)
        summaries.append((Path(point.folder), {"notices": notices[combination]}))
    return notes_of_training(summaries)


def _file_of(folder: Path) -> Path:
    """The definition of a sweep that is to be resumed."""
    if not SweepFolder(folder).holds_sweep:
        raise ConfigError(
            f"{folder} contains no sweep to resume.",
            "Start one there: leave out --resume, or choose another --out.",
        )
    return folder / SWEEP_FILE


def _points_of(definition: SweepDefinition, request: SweepRequest) -> list[Point]:
    """The points of a sweep, or those that try the places of a search; all that is wrong is told here.

    Raises:
        ConfigError: settings that are not allowed.
        SweepError: Optuna is not installed.
    """
    if definition.search is None:
        points = expand(definition)
        _check_recorded(definition, points)
        return points
    check_optuna()
    if request.reuse:
        raise ConfigError(
            "--reuse cannot be used with a search, because its points are chosen one after the other.",
            "Leave out --reuse.",
        )
    if request.shard is not None:
        raise ConfigError(
            "--shard cannot be used with a search, because each trial depends on earlier ones.",
            "Leave out --shard: workers started with the same command share the trials.",
        )
    if request.together and definition.search.pruner != "none":
        raise ConfigError(
            "--together cannot be combined with a pruner.", "Leave out --together, or the pruner."
        )
    points = probe(definition)
    _check_recorded(definition, points)
    return points


def _check_recorded(definition: SweepDefinition, points: Sequence[Point]) -> None:
    """Check that all points record what is searched for, tabulated and plotted.

    Raises:
        ConfigError: one lacks the examples for it.
    """
    values = [] if definition.search is None else [definition.search.objective]
    values += [] if definition.table is None else [definition.table.value]
    values += [] if definition.figure is None else definition.figure.y
    for value in values:
        key = needed_by(value)
        if key is not None and not all(_setting(point, key) for point in points):
            raise ConfigError(f"{value} needs {key} above 0.", f"Add, for example, --set {key}=1000.")


def _setting(point: Point, key: str) -> object:
    return flatten(resolve(point).config.model_dump(mode="json"))[key]


def _check_code(request: SweepRequest, folder: Path) -> None:
    """Check that files given now are those that a sweep which is there was started with; load its copies."""
    own = SweepFolder(folder)
    if own.holds_sweep:
        check_same(load_code(request.code), code_table(own.definition()), str(folder))
        own.load_code()
