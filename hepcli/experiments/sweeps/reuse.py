"""Finished runs of other sweeps, copied to the points of a sweep that have the same configuration."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence, Set
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from hepcli.config import config_hash, read_config
from hepcli.errors import CodeError, ConfigError, OutputError
from hepcli.experiments.run_folder import SUMMARY_FILE, RunFolder
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


def find_reusable(folder: SweepFolder, points: Sequence[Point], places: Sequence[Path]) -> Reusable:
    """Find finished runs for the points that have not been begun.

    Args:
        folder: of the sweep, which may not be there yet.
        points: of the sweep.
        places: runs, folders of runs, sweeps, or folders of sweeps.

    Returns:
        The runs; where several would do, those of the first place.

    Raises:
        ConfigError: a place contains no finished run.
    """
    if not places:
        return Reusable({})
    wanted = {point.hash for point in points if _is_open(folder, point)}
    runs: dict[str, Path] = {}
    notes: list[str] = []
    for place in places:
        finished, found, told = _search(place, wanted - runs.keys())
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
            notes.append(f"None of the runs that are left to do is finished in {place}.")
        runs |= found
    return Reusable(runs, tuple(dict.fromkeys(notes)))


def copy_runs(folder: SweepFolder, points: Sequence[Point], runs: Mapping[str, Path]) -> None:
    """Copy runs to their points, which are done then; points that others have begun meanwhile are theirs.

    Args:
        folder: of the sweep.
        points: of the sweep.
        runs: run folders by the hash of the point.

    Raises:
        OutputError: one cannot be read or written.
    """
    for point in points:
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


def _search(place: Path, wanted: Set[str]) -> tuple[bool, dict[str, Path], list[str]]:
    """Whether a place contains finished runs, those of the wanted hashes, and what the user should know."""
    finished = False
    found: dict[str, Path] = {}
    notes: list[str] = []
    for run in _runs_in(place):
        try:
            summary = RunFolder(run).read_summary() or {}
            own = str(summary.get("config_hash"))
            is_wanted = own in wanted and own not in found
            fits = not is_wanted or config_hash(read_config(run)) == own
        except (CodeError, ConfigError, OutputError) as error:
            notes.append(f"{error.what} The run is not reused.")
            continue
        if not fits:
            notes.append(f"{run / SUMMARY_FILE} belongs to another run. The run is not reused.")
            continue
        finished = True
        if is_wanted:
            found[own] = run
            notes += _of_other_versions(run, summary)
    return finished, found, notes


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
            shutil.rmtree(leftover)
    try:
        try:
            shutil.copytree(source, draft, ignore=ignore)
        except OSError as error:
            reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror or error
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
        shutil.rmtree(draft, ignore_errors=True)


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
