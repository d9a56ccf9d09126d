"""Finished runs of other sweeps, copied to the points of a sweep that have the same configuration."""

import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from hepcli.config import config_hash, read_config
from hepcli.data import find_spec, fingerprint
from hepcli.errors import CodeError, ConfigError, OutputError
from hepcli.experiments.run_files import SUMMARY_FILE
from hepcli.experiments.run_folder import RunFolder, other_examples
from hepcli.experiments.sweeps.claims import DONE, RELEASED, Heart
from hepcli.experiments.sweeps.folder import SweepFolder
from hepcli.experiments.sweeps.points import Point
from hepcli.files import sync, temporary_path

_DEPTHS = ("", "*/", "runs/*/", "*/runs/*/")
"""Where runs lie in a run, a folder of runs, a sweep, and a folder of sweeps."""


class Reusable(NamedTuple):
    """Run folders to copy, by the hash of the point, and what the user should know of them."""

    runs: dict[str, Path]
    notes: tuple[str, ...] = ()


def find_reusable(
    folder: SweepFolder, points: Sequence[Point], places: Sequence[Path], data_dir: Path | None = None
) -> Reusable:
    """Find finished runs for the points that have not been begun.

    Args:
        folder: of the sweep, which may not be there yet.
        points: of the sweep.
        places: runs, folders of runs, sweeps, or folders of sweeps.
        data_dir: where data sets are kept; None for the default folder.

    Returns:
        The runs; where several would do, those of the first place. Left out are those that a new run of their
        configuration may differ from: trained on other examples, begun with given weights, or prolonged.

    Raises:
        ConfigError: a place contains no finished run.
        DatasetError: a data set is missing or damaged.
    """
    if not places:
        return Reusable({})
    wanted = {point.hash for point in points if _is_open(folder, point)}
    runs: dict[str, Path] = {}
    notes: list[str] = []
    for place in places:
        finished, found, told = _search(place, wanted - runs.keys(), data_dir)
        notes += told
        if not finished:
            what = "contains no finished runs" if place.exists() else "does not exist"
            raise ConfigError(
                " ".join([f"--reuse {place}: it {what}.", *notes]),
                "Give a sweep, a run, or a folder that contains some.",
            )
        if found:
            notes.append(f"{len(found)} of {len(points)} runs are finished in {place} and copied from there.")
        elif wanted:
            notes.append(f"None of the remaining runs is finished in {place}.")
        runs |= found
    return Reusable(runs, tuple(dict.fromkeys(notes)))


def copy_runs(
    folder: SweepFolder,
    points: Sequence[Point],
    runs: Mapping[str, Path],
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Copy runs to their points, which are done then; points that others have begun meanwhile are theirs.

    Args:
        folder: of the sweep.
        points: of the sweep.
        runs: run folders by the hash of the point.
        stop: asked before every run; True leaves the others.

    Raises:
        OutputError: one cannot be read or written.
    """
    for point in points:
        if stop():
            return
        if point.hash not in runs or not _is_open(folder, point):
            continue
        claim = folder.journal(point).claim()
        if claim is None:
            continue
        source = runs[point.hash]
        try:
            with Heart([claim]):
                _copy(source, folder.run(point))
        except BaseException:
            claim.settle(RELEASED)
            raise
        claim.settle(DONE, copied_from=str(source.absolute()))


def _is_open(folder: SweepFolder, point: Point) -> bool:
    return not folder.run(point).path.exists() and folder.state(point) == "waiting"


def _search(place: Path, wanted: Set[str], data_dir: Path | None) -> tuple[bool, dict[str, Path], list[str]]:
    """Whether a place contains finished runs, those of the wanted hashes, and what the user should know."""
    finished = False
    found: dict[str, Path] = {}
    notes: list[str] = []
    for run in _runs_in(place):
        try:
            summary = RunFolder(run).read_summary() or {}
            own = str(summary.get("config_hash"))
            is_wanted = own in wanted and own not in found
            why = _why_not(run, summary, own, data_dir) if is_wanted else None
        except (CodeError, ConfigError, OutputError) as error:
            notes.append(f"{error.what} The run is not reused.")
            continue
        if why is not None:
            notes.append(f"{why} The run is not reused.")
            continue
        finished = True
        if is_wanted:
            found[own] = run
            notes += _of_other_versions(run, summary)
    return finished, found, notes


def _why_not(run: Path, summary: Mapping[str, Any], own: str, data_dir: Path | None) -> str | None:
    """Why a finished run of that hash is not what would be trained, in words; None where it is."""
    config = read_config(run)
    if config_hash(config) != own:
        return f"{run / SUMMARY_FILE} belongs to another run."
    if summary.get("earlier_schedules"):
        return f"{run} was resumed with a different number of epochs, so its learning-rate schedule differs."
    if config.run.init_from:
        return f"{run} started from the weights of {config.run.init_from}, which may have changed since."
    examples = fingerprint(find_spec(config.data.name, data_dir))
    if examples is not None and "dataset_sha256" not in summary:
        return (
            f"{run / SUMMARY_FILE} does not say what examples of {config.data.name} the run was trained on."
        )
    if examples is not None and summary["dataset_sha256"] != examples:
        return other_examples(run, config.data.name)
    return None


def _runs_in(place: Path) -> Iterator[Path]:
    """The folders with a summary, in order, but no unfinished copies."""
    for depth in _DEPTHS:
        for file in sorted(place.glob(f"{depth}{SUMMARY_FILE}")):
            if not file.parent.name.startswith("."):
                yield file.parent


def _copy(source: Path, target: RunFolder) -> None:
    """Copy a run as a whole or not at all."""
    draft = temporary_path(target.path)

    def ignore(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if Path(folder) == source and name.startswith(".")]  # its lock

    with target.writing():
        target.path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in target.path.parent.glob(f".{target.path.name}.*.tmp"):  # of a process that was killed
            _make_writable(leftover)
            shutil.rmtree(leftover)
    try:
        try:
            shutil.copytree(
                source, draft, ignore=ignore, copy_function=shutil.copyfile, ignore_dangling_symlinks=True
            )
            _make_writable(draft)
        except OSError as error:
            reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror or error
            reason = re.sub(r"^\[Errno \d+\] ", "", str(reason))
            raise OutputError(
                f"{source} cannot be copied to {target.path}: {reason}.",
                "Free disk space or make both folders accessible, or leave out --reuse.",
            ) from error
        summary = RunFolder(draft).read_summary() or {}
        RunFolder(draft).write_json(SUMMARY_FILE, summary | {"run": str(target.path.absolute())})
        with target.writing():
            os.rename(draft, target.path)
            sync(target.path.parent)
    finally:
        if draft.exists():
            _make_writable(draft)
            shutil.rmtree(draft, ignore_errors=True)


def _make_writable(folder: Path) -> None:
    """Let its owner change a copied folder, whose source may be an archive that nobody may."""
    for path, _, _ in os.walk(folder):  # from the top, so that what is in it can be reached
        os.chmod(path, os.stat(path).st_mode | stat.S_IRWXU)


def _of_other_versions(run: Path, summary: Mapping[str, object]) -> list[str]:
    """What the user should know of a run that other versions trained."""
    versions = summary.get("versions")
    theirs = versions if isinstance(versions, dict) else {}
    other = [
        f"{package} {theirs.get(package, 'unknown')} instead of {version(package)}"
        for package in ("hepcli", "jax")
        if theirs.get(package) != version(package)
    ]
    return [f"{run} was trained with {', '.join(other)}."] if other else []
