"""What the runs of a sweep came to, read from their folders: those of a sweep, or ordinary ones."""

from collections.abc import Sequence
from pathlib import Path

from hepcli.config import SWEEP_FILE
from hepcli.errors import ConfigError, SweepError
from hepcli.experiments.sweeps.collect_runs import collect_runs, runs_in
from hepcli.experiments.sweeps.collection import (
    Collection,
    Outcome,
    notes_of_schedules,
    notes_of_training,
    views,
)
from hepcli.experiments.sweeps.examples import notes_of_examples, notes_of_starts
from hepcli.experiments.sweeps.folder import POINTS_FILE, SweepFolder
from hepcli.experiments.sweeps.points import Point, folder_of
from hepcli.files import legible


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
        runs, lost = runs_in(path)
        return collect_runs(runs, legible(path.name), lost, keys)
    if keys is not None:
        raise ConfigError(
            f"--keys works only on a folder of runs; {path} contains a sweep, which is tabulated by its "
            "axes.",
            f"Leave out --keys, or edit [table] in {folder.path / SWEEP_FILE}.",
        )
    return _of_sweep(folder)


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
    notices += [*notes_of_examples(outcomes), *notes_of_starts(points, outcomes)]
    notices += notes_of_training((outcome.folder, outcome.summary) for outcome in outcomes)
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
    notices += notes_of_schedules(run.path, summary)
    kept = summary if state == "done" else None
    return Outcome(run.path, point.labels, point.seed, kept, run.read_metrics(), state, error)
