"""What the runs of a sweep came to, read from their folders: those of a sweep, or ordinary ones."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hepcli.checkpoints import CHECKPOINTS_FOLDER, CONFIG_FILE
from hepcli.config import (
    ABSENT,
    ERRORS,
    LINE_ERRORS,
    OF_LAST_LINE,
    SWEEP_FILE,
    Config,
    FigureKind,
    FigureView,
    SweepDefinition,
    TableView,
    config_hash,
    flatten,
    labels_of,
    read_config,
)
from hepcli.config.load import SEE_KEYS
from hepcli.errors import CodeError, ConfigError, SweepError
from hepcli.experiments.captions import is_number
from hepcli.experiments.run_folder import SUMMARY_FILE, RunFolder
from hepcli.experiments.sweeps.folder import POINTS_FILE, SweepFolder
from hepcli.experiments.sweeps.points import Point, folder_of
from hepcli.experiments.sweeps.telling import (
    mixed_keys,
    structural_keys,
    telling_keys,
    unknown_key,
    unnamed_keys,
)
from hepcli.files import legible
from hepcli.settings import MEASURES, did_you_mean

_SEED = "run.seed"
_TITLES: dict[str, str] = {
    "test_error": "test error / %",
    "selected_test_error": "test error, selected epoch / %",
    "validation_error": "validation error, selected epoch / %",
    "train_error": "training error / %",
    "weight_angle_deg": "weight angle / °",
    "homeostatic_loss": "homeostatic loss",
    "test.log10_residual": "log10 residual, test",
    "images_per_second": "images/s",
    "asymmetry.cosine.total": "error signal: cosine with rbp",
    "asymmetry.gradient_cosine": "gradient: cosine with bptt",
}


class Outcome(NamedTuple):
    """One run.

    Attributes:
        folder: of the run.
        labels: axis to label.
        seed: of the run.
        summary: of a finished run; None of one that is not.
        history: lines of its metrics.jsonl.
        state: `waiting`, `running`, `done` or `failed`.
        error: why it failed, else None.
    """

    folder: Path
    labels: dict[str, str]
    seed: int
    summary: dict[str, Any] | None
    history: list[dict[str, Any]]
    state: str
    error: str | None = None


class Collection(NamedTuple):
    """All runs of a folder, and how to show them.

    Attributes:
        title: above table and figure.
        axes: axis to its labels, both in order.
        outcomes: the runs.
        table: how to tabulate.
        figure: what to plot.
        notices: what the user should know of the runs.
        with_unfinished: whether curves show runs that are not finished beside those that are.
        unnamed: keys in which the runs differ beside the axes.
    """

    title: str
    axes: dict[str, list[str]]
    outcomes: list[Outcome]
    table: TableView
    figure: FigureView
    notices: tuple[str, ...] = ()
    with_unfinished: bool = False
    unnamed: tuple[str, ...] = ()


def collect(path: Path, keys: Sequence[str] | None = None) -> Collection:
    """Read a sweep folder, or a folder of ordinary run folders, grouped by the keys that tell them apart.

    Args:
        path: the folder.
        keys: group ordinary runs by these dotted keys instead.

    Returns:
        Its runs, finished or not.

    Raises:
        ConfigError: there are no runs, or no such keys.
        OutputError: records of a run are damaged.
        SweepError: the list of points is.
    """
    folder = SweepFolder(path)
    if not folder.holds_sweep:
        runs, lost = _runs_in(path)
        return collect_runs(runs, legible(path.name), lost, keys)
    if keys is not None:
        raise ConfigError(
            f"--keys works only on a folder of runs; {path} contains a sweep, which is tabulated by its "
            "axes.",
            f"Leave out --keys, or edit [table] in {folder.path / SWEEP_FILE}.",
        )
    return _of_sweep(folder)


def value_title(name: str) -> str:
    """What to write at an axis of that value."""
    of_measures = {f"asymmetry.{key}": str(measure.title) for key, measure in MEASURES.items()}
    return (_TITLES | of_measures).get(name, name.replace("_", " ").replace(".", " "))


def value_of(record: Mapping[str, Any], name: str, file: str | Path) -> float | None:
    """Read a value of a summary, or of a line of metrics.jsonl.

    Args:
        record: the summary or line.
        name: a derived value, such as `test_error` in %, or a dotted key.
        file: where it was read, for the error.

    Returns:
        The number; None where it is undefined.

    Raises:
        ConfigError: there is no such number in it.
    """
    here: Any = record
    errors = LINE_ERRORS if "selection" not in record and "validation" in record else ERRORS
    for part in errors.get(name, name).split("."):
        if not isinstance(here, Mapping) or part not in here:
            raise _no_value(record, name, file)
        here = here[part]
    if here is None:
        return None
    if isinstance(here, bool) or not isinstance(here, int | float):
        raise _no_value(record, name, file)
    number = 100 * (1 - here) if name in ERRORS else float(here)
    return number if math.isfinite(number) else None


def value_in_summary(outcome: Outcome, name: str) -> float | None:
    """Read a value of the summary of a run; None where it is undefined, or the run is not finished."""
    if outcome.summary is None:
        return None
    last = outcome.history[-1] if outcome.history else {}  # older summaries have no tables of it
    summary = {name: last[name] for name in OF_LAST_LINE if name in last} | outcome.summary
    return value_of(summary, name, outcome.folder / SUMMARY_FILE)


def _no_value(record: Mapping[str, Any], name: str, file: str | Path) -> ConfigError:
    numbers = [key for key, value in flatten(record).items() if isinstance(value, int | float)]
    derived = [own for own, key in ERRORS.items() if key in numbers]
    known = [*derived, *numbers]
    hint = "" if name in ERRORS else did_you_mean(name, known)  # a name that is right, but lacks its data
    return ConfigError(
        f'there is no value "{name}" in {file}{hint or "."}',
        f"Choose one of: {', '.join(known)}.",
    )


def _of_sweep(folder: SweepFolder) -> Collection:
    definition = folder.definition()
    points = folder.points()
    listed = [(point.labels, point.seed) for point in points]
    planned = [(labels, seed) for labels, _ in definition.combinations() for seed in definition.sweep.seeds]
    if definition.grid:  # what several grids of a union have is there once
        once = {(*labels.items(), seed): (labels, seed) for labels, seed in planned}
        planned = [place for place in once.values() if place in listed]
    named = [(point.folder, folder_of(point.labels, point.seed, point.hash)) for point in points]
    if listed != planned or any(folder != own for folder, own in named):
        raise SweepError(
            f"{folder.path}: {SWEEP_FILE} and {POINTS_FILE} do not belong to the same sweep.",
            f"Restore the file that was changed; or delete {POINTS_FILE} and run the command that started "
            "the sweep, which recreates it.",
        )
    notices: list[str] = []
    outcomes = [_outcome(folder, point, notices) for point in points]
    table, figure = views(definition)
    return Collection(definition.sweep.title, definition.labels, outcomes, table, figure, tuple(notices))


def _outcome(folder: SweepFolder, point: Point, notices: list[str]) -> Outcome:
    """What came of a point; what the user should know of it is added to `notices`."""
    run, journal = folder.run(point), folder.journal(point)
    if what := folder.stranger(point):
        notices.append(f"{what} It is left out.")
        return Outcome(run.path, point.labels, point.seed, None, [], "failed", notices[-1])
    state, summary = journal.state(), run.read_summary()
    if summary is not None and state in ("waiting", "running"):
        state = "done"  # the summary is of this configuration, and what is written last
    if (damaged := journal.damaged()) is not None:
        notices.append(f"{damaged} is damaged; according to the other entries, the point is {state}.")
    error = journal.error() if state == "failed" else None
    if state == "done" and summary is None:
        state, error = "failed", folder.lost(point)
        notices.append(error)
    notices += _of_schedules(run.path, summary)
    kept = summary if state == "done" else None
    return Outcome(run.path, point.labels, point.seed, kept, run.read_metrics(), state, error)


def _of_schedules(run: Path, summary: Mapping[str, Any] | None) -> list[str]:
    """What the user should know of a run that was prolonged, which its configuration does not tell."""
    earlier = (summary or {}).get("earlier_schedules")
    if not earlier:
        return []
    return [
        f"{run} was resumed with another number of epochs, so it followed another schedule than a run of "
        "that length from the start."
    ]


def views(definition: SweepDefinition) -> tuple[TableView, FigureView]:
    """The views of a definition, or those that suit its axes."""
    table, figure = _default_views(definition.labels)
    return definition.table or table, definition.figure or figure


def _default_views(axes: Mapping[str, Sequence[str]]) -> tuple[TableView, FigureView]:
    """Rows down to the last axis, which goes across; the longest numeric axis along the bottom."""
    names = list(axes)
    columns = names[-1:] if len(names) > 1 else []
    rows = [name for name in names if name not in columns]
    numeric = [name for name in names if len(axes[name]) > 1 and all(map(is_number, axes[name]))]
    x = max(numeric, key=lambda name: len(axes[name]), default=names[0] if names else None)
    series = tuple(name for name in names if name != x)
    kind: FigureKind = "lines" if x in numeric else "bars"
    return TableView(rows=tuple(rows), columns=tuple(columns)), FigureView(kind=kind, x=x, series=series)


def _runs_in(path: Path) -> tuple[list[Path], list[str]]:
    """The run folders in a folder, at least one, and notices of those that lost their configuration."""
    runs = _holding(path, CONFIG_FILE)
    lost = [
        f"{run} has no {CONFIG_FILE}."
        for run in _holding(path, CHECKPOINTS_FOLDER, SUMMARY_FILE)
        if run not in runs
    ]
    if not runs:
        raise ConfigError(
            " ".join([f"{path} contains neither a sweep nor run folders.", *lost]),
            "Give the folder of a sweep, or a folder that contains run folders.",
        )
    return runs, [f"{what} It is left out." for what in lost]


def collect_runs(
    folders: Sequence[Path],
    title: str,
    notices: Sequence[str] = (),
    asked: Sequence[str] | None = None,
    *,
    with_unfinished: bool = False,
) -> Collection:
    """Read ordinary run folders: what tells their configurations apart is what was varied.

    Args:
        folders: of the runs, at least one.
        title: above table and figure.
        notices: what the user should know already.
        asked: dotted keys that tell them apart; None finds them.
        with_unfinished: whether runs that are not finished will be shown, too.

    Returns:
        The runs, finished or not.

    Raises:
        ConfigError: a folder is no run, or no run has a key that is asked for.
        OutputError: records of a run are damaged.
    """
    configs, unreadable = _configs(folders)
    runs, twice = _distinct(configs)
    notices = [*notices, *unreadable, *twice]
    flat = [_flat(configs[run]) for run in runs]
    if asked is not None and (what := unknown_key(flat, asked)) is not None:
        raise ConfigError(f"--keys: {what}.", SEE_KEYS)
    varied = telling_keys(flat, _SEED) if asked is None else list(dict.fromkeys(asked))
    if mixed := mixed_keys(flat, varied, _SEED):
        raise ConfigError(
            f"--keys {','.join(varied)}: runs that share these keys differ in {', '.join(mixed)}.",
            f"Add the keys in which they differ: --keys {','.join([*varied, *mixed])}.",
        )
    labels = _labels(runs, flat, varied, structural_keys(flat, varied) if asked is None else [])
    axes = {name: _in_order({own[name] for own in labels}) for name in (labels[0] if labels else ())}
    outcomes = []
    for run, one, own in zip(runs, flat, labels, strict=True):
        summary = RunFolder(run).read_summary()
        if summary is not None and summary.get("config_hash") != config_hash(configs[run]):
            what = "counts as unfinished" if with_unfinished else "is left out"
            notices.append(
                f"{run / SUMMARY_FILE} does not match the {CONFIG_FILE} next to it. The run {what}."
            )
            summary = None
        elif summary is None and not with_unfinished:
            notices.append(f"{run} has no {SUMMARY_FILE}: it is not finished, and is left out.")
        notices += _of_schedules(run, summary)
        state = "waiting" if summary is None else "done"
        history = RunFolder(run).read_metrics()
        outcomes.append(Outcome(run, own, int(str(one[_SEED])), summary, history, state))
    notices += _of_examples(outcomes)
    unnamed = unnamed_keys(flat, varied, _SEED)
    if unnamed:
        named = f"{', '.join(varied)}, by which they are told apart" if varied else "their seeds"
        notices.append(f"The runs differ in more than {named}: {', '.join(unnamed)}.")
    views_of = _default_views(axes)
    return Collection(title, axes, outcomes, *views_of, tuple(notices), with_unfinished, tuple(unnamed))


def _labels(
    runs: Sequence[Path],
    flat: Sequence[Mapping[str, object]],
    varied: Sequence[str],
    structural: Sequence[str],
) -> list[dict[str, str]]:
    """Axis to label of each run; networks that differ in structure are called after the first run of each."""
    names = {key: _short(key, varied) for key in varied if key not in structural}
    labels: list[dict[str, str]] = [{} for _ in runs]
    for key, name in names.items():
        there = [place for place, one in enumerate(flat) if key in one]
        told = dict(zip(there, labels_of([flat[place][key] for place in there]), strict=True))
        for place, own in enumerate(labels):
            own[name] = told.get(place, ABSENT)
    if structural:
        called: dict[str, str] = {}
        for run, one, own in zip(runs, flat, labels, strict=True):
            structure = repr([one.get(key) for key in structural])
            if structure not in called:
                called[structure] = _called(run, set(called.values()))
            own["network of"] = called[structure]
    return labels


def _called(run: Path, taken: set[str]) -> str:
    """The end of a path, as long as it takes to tell it from others."""
    parts = run.absolute().parts
    names = (legible("/".join(parts[-length:])) for length in range(1, len(parts) + 1))
    return next(name for name in names if name not in taken)


def _of_examples(outcomes: Sequence[Outcome]) -> list[str]:
    """What the user should know where a data set has not been the same for all runs."""
    first: dict[str, tuple[str, Path]] = {}
    notices: dict[str, str] = {}
    for outcome in outcomes:
        summary = outcome.summary or {}
        if (digest := summary.get("dataset_sha256")) is not None:
            name = summary["dataset"]
            known, run = first.setdefault(name, (digest, outcome.folder))
            if digest != known:
                what = f"was trained on other examples of the data set {name} than {run}; means include both."
                notices.setdefault(name, f"{outcome.folder} {what}")
    return list(notices.values())


def _configs(folders: Sequence[Path]) -> tuple[dict[Path, Config], list[str]]:
    """The configurations that can be read, at least one, and notices of the others."""
    configs: dict[Path, Config] = {}
    faults: dict[Path, ConfigError | CodeError] = {}
    for run in folders:
        try:
            configs[run] = read_config(run)
        except (ConfigError, CodeError) as error:
            faults[run] = error
    if faults and not configs:
        raise next(iter(faults.values()))
    return configs, [f"{error.what} The run is left out." for error in faults.values()]


def _holding(path: Path, *names: str) -> list[Path]:
    """The subfolders that hold one of the names, in order."""
    inside = [file.parent for name in names for file in path.glob(f"*/{name}")] if path.is_dir() else []
    return sorted(set(inside))


def _distinct(configs: Mapping[Path, Config]) -> tuple[list[Path], list[str]]:
    """Of runs of one configuration, seed and all, the first that is finished; and which are left out."""
    kept: dict[str, Path] = {}
    notices = []
    for run in sorted(configs, key=lambda run: (not (run / SUMMARY_FILE).exists(), run)):
        first = kept.setdefault(config_hash(configs[run]), run)
        if first != run:
            notices.append(f"{run} has the same configuration and seed as {first}. It is left out.")
    return sorted(kept.values()), notices


def _flat(config: Config) -> dict[str, object]:
    return flatten(config.model_dump(mode="json"))


def _short(key: str, keys: Sequence[str]) -> str:
    """The last part of a key where no other key ends like it."""
    name = key.rpartition(".")[2]
    return name if sum(other.rpartition(".")[2] == name for other in keys) == 1 else key


def _in_order(labels: set[str]) -> list[str]:
    numeric = all(map(is_number, labels))
    return sorted(
        labels, key=(lambda label: (float(label), label)) if numeric else (lambda label: (0.0, label))
    )
