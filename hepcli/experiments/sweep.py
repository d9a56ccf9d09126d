"""The function behind `hep sweep`: a grid of runs, from definition to table and figure."""

import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from hepcli.code import check_same, code_settings, load_code
from hepcli.config import (
    SWEEP_FILE,
    NamedSweep,
    SweepDefinition,
    check_sweep,
    config_error,
    flatten,
    label_of,
    load_config,
    load_sweep,
    needed_by,
    parse_search,
    parse_seeds,
    parse_shard,
    parse_vary,
    read_settings,
    take_over,
    tell_apart,
)
from hepcli.data import find_spec, fingerprint, load_split
from hepcli.errors import ConfigError, DatasetError, OutputError, SweepError
from hepcli.experiments.figures import FigureFormat
from hepcli.experiments.run_folder import RunFolder, other_examples
from hepcli.experiments.sources import INIT_KEY, absolute_source
from hepcli.experiments.sweeps.claims import DONE, ENDED, FAILED
from hepcli.experiments.sweeps.folder import POINTS_FILE, Status, SweepFolder, code_table
from hepcli.experiments.sweeps.points import Point, absolute_preset, expand, probe, resolve
from hepcli.experiments.sweeps.pool import Pool, PoolSettings
from hepcli.experiments.sweeps.report import Report, check_replaceable, report
from hepcli.experiments.sweeps.reuse import copy_runs, find_reusable
from hepcli.experiments.sweeps.search import search_of
from hepcli.experiments.sweeps.study import check_optuna

_POLL_S = 0.5
_LEAST_FREE = 2**17  # bytes; a run's first files take as much


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
        code: files with own parts; the sweep keeps copies.
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


class SweepStarted(NamedTuple):
    """The folder is ready, for so many points; `notices` are for the user."""

    folder: Path
    num_points: int
    notices: tuple[str, ...] = ()


class PointProgress(NamedTuple):
    """How far a point is, and the epochs it is to have."""

    point: Point
    status: Status
    epochs: int


class SweepProgress(NamedTuple):
    """How far each point is, and how many a search will add.

    `seconds_left` is None until there is something to judge it by.
    """

    points: Sequence[PointProgress]
    to_come: int
    seconds_left: float | None


class PointSettled(NamedTuple):
    """A point was done, or pruned, then without a summary, or failed for good with `error`."""

    point: Point
    error: str | None
    summary: dict[str, Any] | None


class SweepInterrupted(NamedTuple):
    """The sweep was stopped and saved; `command` goes on."""

    command: str


class SweepFinished(NamedTuple):
    """All points are done, pruned or failed; `failed` of them."""

    report: Report
    failed: int


SweepEvent = SweepStarted | SweepProgress | PointSettled | SweepInterrupted | SweepFinished


def plan(request: SweepRequest) -> Plan:
    """Resolve a request to its points; nothing is written.

    Args:
        request: what is asked for; to resume a sweep its folder says enough.

    Returns:
        The plan.

    Raises:
        CheckpointError: there are no weights where runs should take some from.
        CodeError: a file with own parts is missing, has changed or cannot be loaded.
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
    (name, definition), notes = _definition(request, finds_sources=not is_own)
    folder = request.out or Path("sweeps") / name
    _check_code(request, folder)
    points = _points_of(definition, request)
    if request.resume:
        _file_of(folder)
    own = SweepFolder(folder)
    if own.holds_sweep:
        own.check(definition, extend=request.resume)
        if definition.search is None and (own.path / POINTS_FILE).exists():
            own.check_points(points)
    shard = points[index::number]
    reused = find_reusable(own, shard, request.reuse, request.data_dir)
    return Plan(folder, definition, points, shard, (*notes, *reused.notes), reused.runs)


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


def sweep(
    request: SweepRequest, command: Sequence[str], stop: Callable[[], bool] = lambda: False
) -> Iterator[SweepEvent]:
    """Run a sweep, or join one.

    Args:
        request: what to run and where.
        command: the command line that was given, to print after an interrupt.
        stop: asked twice a second; True has the workers save and end.

    Yields:
        Records of the progress, the last one `SweepInterrupted` or `SweepFinished`.

    Raises:
        ConfigError: settings that are not allowed, or a folder of another sweep.
        DatasetError: a data set is missing or damaged.
        OutputError: the folder cannot be written.
        SweepError: workers keep dying.
    """
    planned = prepare(request)
    watch = _Watch(planned)
    yield SweepStarted(planned.folder, watch.num_points, planned.notes)
    arguments = worker_arguments(planned.folder, request)
    jobs = max(1, min(request.jobs, watch.num_open))
    pool = Pool(PoolSettings(jobs, arguments, planned.folder / "logs"))
    try:
        yield from watch.until_over(pool, stop, fail_fast=request.fail_fast)
    finally:
        pool.terminate()
        while pool.alive:
            time.sleep(_POLL_S / 10)
    if watch.is_over:
        yield SweepFinished(report(planned.folder, None, request.figure_format), watch.num_failed)
    elif request.fail_fast and (point := watch.first_failed) is not None:
        raise SweepError(
            f"Stopped by --fail-fast: {point.title} failed.",
            "Finished work is kept. To retry the failed run and continue, add "
            f"--resume --out {planned.folder}",
        )
    else:
        yield SweepInterrupted(shlex.join(command))


def prepare(request: SweepRequest, planned: Plan | None = None) -> Plan:
    """Make or join the folder of a request, once all that can be checked before has been.

    Args:
        request: what to run and where.
        planned: what it comes to, where that is known already.

    Raises:
        ConfigError, DatasetError, OutputError: as `sweep` does.
    """
    planned = planned or plan(request)
    folder = SweepFolder(planned.folder)
    is_search = planned.definition.search is not None
    trained = folder.points() if is_search and folder.holds_sweep else planned.points
    for name in sorted({resolve(point).config.data.name for point in planned.points}):
        load_split(name, "test", request.data_dir)
        _check_trained_on(folder, trained, name, request.data_dir)
    if not folder.holds_sweep:
        if RunFolder(planned.folder).holds_run:
            raise OutputError(f"{planned.folder} contains a run.", "Choose another --out.")
        check_replaceable(planned.folder)
    folder.join(planned.definition, planned.points, extend=request.resume)
    folder.keep_code(planned.definition)
    if request.resume:
        for point in planned.own if planned.definition.search is None else folder.points():
            folder.journal(point).retry(is_lost=folder.is_lost(point))
    copy_runs(folder, planned.own, planned.reused)
    return planned


def _check_trained_on(folder: SweepFolder, points: Sequence[Point], name: str, data_dir: Path | None) -> None:
    """Check that finished runs were trained on the examples that the others will be trained on.

    Raises:
        DatasetError: one was not.
    """
    own = fingerprint(find_spec(name, data_dir))
    if own is None or not folder.holds_sweep:
        return
    for point in points:
        summary = folder.run(point).read_summary() or {}
        if summary.get("dataset") == name and summary.get("dataset_sha256", own) != own:
            raise DatasetError(
                other_examples(folder.run(point).path, name),
                "Give the --data-dir it was trained with, or choose another --out.",
            )


def worker_arguments(folder: Path, request: SweepRequest) -> list[str]:
    """Arguments of `hep sweep-worker` for a request."""
    arguments = [str(folder.absolute())]
    arguments += ["--together"] if request.together else []
    arguments += ["--fail-fast"] if request.fail_fast else []
    arguments += [] if request.shard is None else ["--shard", request.shard]
    return arguments + ([] if request.data_dir is None else ["--data-dir", str(request.data_dir.absolute())])


class _Watch:
    """Follows the points of a folder, of a search also those that are added."""

    def __init__(self, planned: Plan) -> None:
        self._folder, self._definition = SweepFolder(planned.folder), planned.definition
        self._search = search_of(self._folder)
        self._points = planned.own
        self._epochs: dict[str, int] = {}

    @property
    def num_points(self) -> int:
        """How many points there will be."""
        search = self._definition.search
        return len(self._points) if search is None else search.trials * len(self._definition.sweep.seeds)

    def until_over(self, pool: Pool, stop: Callable[[], bool], *, fail_fast: bool) -> Iterator[SweepEvent]:
        """Watch until every point is settled, until one failed that should not, or until stopped."""
        settled: set[str] = set()
        is_left_alone = False  # all workers were asked to end, by somebody else
        started, behind = time.monotonic(), None
        while True:
            points = self._progress()
            news = [p for p in points if p.point.hash not in settled and p.status.state in ENDED]
            settled.update(one.point.hash for one in news)
            yield from (_settled(self._folder, one.point) for one in news)
            done = sum(one.status.epochs for one in points)
            behind = done if behind is None else behind
            pace = (done - behind) / (time.monotonic() - started + 1e-9)
            to_come = self.num_points - len(points)
            left: float = sum(
                one.epochs - one.status.epochs for one in points if one.status.state not in ENDED
            )
            left += to_come * (sum(one.epochs for one in points) / len(points) if points else 0)
            yield SweepProgress(points, to_come, left / pace if pace > 0 else None)
            failed = fail_fast and any(one.status.state == FAILED for one in points)
            is_over = settled >= {one.point.hash for one in points} and self.is_over
            if is_over or failed or stop() or is_left_alone:
                return
            is_left_alone = not pool.alive  # once more, for what the last worker has come to
            if not pool.tend(progressed=bool(news)):
                raise _dying(self._folder.path)
            is_left_alone = is_left_alone and not pool.alive
            time.sleep(_POLL_S)

    @property
    def num_open(self) -> int:
        """How many points are left to do."""
        states = self.states()
        return self.num_points - sum(state in ENDED for state in states)

    @property
    def num_failed(self) -> int:
        """How many points came to no result that counts."""
        return sum(_settled(self._folder, point).error is not None for point in self._there())

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do."""
        is_open = self._search is not None and self._search.is_open
        return not is_open and set(self.states()) <= set(ENDED)

    def states(self) -> list[str]:
        """The state of each point."""
        return [self._folder.state(point) for point in self._there()]

    @property
    def first_failed(self) -> Point | None:
        """A point that failed for good; None without."""
        return next((one for one in self._there() if self._folder.state(one) == FAILED), None)

    def _there(self) -> Sequence[Point]:
        return self._points if self._search is None else self._folder.points()

    def _progress(self) -> list[PointProgress]:
        there = self._there()
        for point in there:
            if point.hash not in self._epochs:
                self._epochs[point.hash] = resolve(point).config.run.epochs
        return [PointProgress(one, self._folder.status(one), self._epochs[one.hash]) for one in there]


def _dying(folder: Path) -> SweepError:
    """The error of workers that die one after the other, with the reason where it is plain to see."""
    is_full = shutil.disk_usage(folder).free < _LEAST_FREE
    reason = "no space is left on the disk" if is_full else _last_line(folder / "logs")
    return SweepError(
        f"Workers keep dying without finishing anything{f': {reason}' if reason else ''}.",
        f"See the logs in {folder / 'logs'}, then run the same command again.",
    )


def _last_line(logs: Path) -> str:
    """What the worker that wrote last said last; nothing where there is no such file."""
    newest = max(logs.glob("*.log"), key=lambda file: file.stat().st_mtime, default=None)
    lines = [] if newest is None else newest.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip().rstrip(".") for line in reversed(lines) if line.strip()), "")


def _settled(folder: SweepFolder, point: Point) -> PointSettled:
    state = folder.state(point)
    error = folder.journal(point).error() if state == FAILED else folder.stranger(point)
    if error is None and state == DONE and folder.is_lost(point):
        error = folder.lost(point)
    return PointSettled(point, error, None if error is not None else folder.run(point).read_summary())


def _definition(request: SweepRequest, *, finds_sources: bool = True) -> tuple[NamedSweep, tuple[str, ...]]:
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
    settings, problems = read_settings(request.overrides, {"run.epochs": request.epochs})
    if problems:
        raise config_error(problems)
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
