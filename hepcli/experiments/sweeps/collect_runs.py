"""What ordinary runs came to, grouped by the settings in which they differ."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hepcli.checkpoints import CHECKPOINTS_FOLDER, CONFIG_FILE
from hepcli.config import ABSENT, Config, config_hash, flatten, labels_of, read_config
from hepcli.config.load import SEE_KEYS
from hepcli.errors import CodeError, ConfigError
from hepcli.experiments.figures.captions import is_number
from hepcli.experiments.run_files import SUMMARY_FILE
from hepcli.experiments.run_folder import RunFolder
from hepcli.experiments.sources import INIT_KEY, weights_in
from hepcli.experiments.sweeps.collection import (
    Collection,
    Outcome,
    default_views,
    notes_of_schedules,
    notes_of_training,
)
from hepcli.experiments.sweeps.telling import (
    mixed_keys,
    structural_keys,
    telling_keys,
    unknown_key,
    unnamed_keys,
)
from hepcli.files import legible

_SEED = "run.seed"
_DATA = "data.name"


def runs_in(path: Path) -> tuple[list[Path], list[str]]:
    """The run folders in a folder, at least one, and notices of those that lost their configuration.

    Raises:
        ConfigError: there are none.
    """
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
    summaries = {run: RunFolder(run).read_summary() for run in configs}
    names = _names(configs, summaries)
    runs, twice = _distinct(configs, names)
    notices = [*notices, *unreadable, *twice]
    flat = [_flat(configs[run]) | names[run] for run in runs]
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
        summary = summaries[run]
        if summary is not None and summary.get("config_hash") != config_hash(configs[run]):
            what = "counts as unfinished" if with_unfinished else "is left out"
            notices.append(
                f"{run / SUMMARY_FILE} does not match the {CONFIG_FILE} next to it. The run {what}."
            )
            summary = None
        elif summary is None and not with_unfinished:
            notices.append(f"{run} has no {SUMMARY_FILE}: it is not finished, and is left out.")
        notices += notes_of_schedules(run, summary)
        state = "waiting" if summary is None else "done"
        history = RunFolder(run).read_metrics()
        outcomes.append(Outcome(run, own, int(str(one[_SEED])), summary, history, state))
    notices += notes_of_training((outcome.folder, outcome.summary) for outcome in outcomes)
    unnamed = unnamed_keys(flat, varied, _SEED)
    if unnamed:
        named = f"{', '.join(varied)}, by which they are grouped" if varied else "their seeds"
        notices.append(f"The runs differ in more than {named}: {', '.join(unnamed)}.")
    views_of = default_views(axes)
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
            own[name] = told.get(place) or ABSENT
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
    """The subfolders that hold one of the names, in order; hidden ones, such as of backups, do not count."""
    inside = [file.parent for name in names for file in path.glob(f"*/{name}")] if path.is_dir() else []
    return sorted({folder for folder in inside if not folder.name.startswith(".")})


def _names(
    configs: Mapping[Path, Config], summaries: Mapping[Path, Mapping[str, Any] | None]
) -> dict[Path, dict[str, object]]:
    """What each run calls its data and the weights that it began with.

    Where a name stood for several things, such as a file that was replaced meanwhile, a part of their digests
    is added, so that they are told apart.
    """
    said = {run: {INIT_KEY: own.run.init_from, _DATA: own.data.name} for run, own in configs.items()}
    meant = {run: _digests(run, summaries[run] or {}) for run in configs}
    known: dict[tuple[str, str], set[str]] = {}
    for run, own in said.items():
        for key, name in own.items():
            known.setdefault((key, name), set()).update(filter(None, [meant[run][key]]))
    return {
        run: {
            key: f"{name} ({meant[run][key]})" if len(known[key, name]) > 1 and meant[run][key] else name
            for key, name in own.items()
        }
        for run, own in said.items()
    }


def _digests(run: Path, summary: Mapping[str, Any]) -> dict[str, str]:
    """Of the weights that a run began with and of its data, as its records have them; empty where not."""
    start = summary.get("init_from") or RunFolder(run).read_init()
    began = "" if start is None else json.dumps(weights_in(start))
    return {
        INIT_KEY: began and hashlib.sha256(began.encode()).hexdigest()[:8],
        _DATA: (summary.get("dataset_sha256") or "")[:8],
    }


def _distinct(
    configs: Mapping[Path, Config], names: Mapping[Path, Mapping[str, object]]
) -> tuple[list[Path], list[str]]:
    """Of runs of one configuration, seed and all, the first that is finished; and which are left out."""
    kept: dict[tuple[object, ...], Path] = {}
    notices = []
    for run in sorted(configs, key=lambda run: (not (run / SUMMARY_FILE).exists(), run)):
        first = kept.setdefault((config_hash(configs[run]), *names[run].values()), run)
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
