"""Whether the runs of a sweep learn from the same examples, and begin with the same weights."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from hepcli.data import find_spec, fingerprint
from hepcli.errors import DatasetError
from hepcli.experiments.run_folder import other_examples
from hepcli.experiments.sources import INIT_KEY, weights_in
from hepcli.experiments.sweeps.collection import Outcome
from hepcli.experiments.sweeps.folder import SweepFolder
from hepcli.experiments.sweeps.points import Point


def check_examples(folder: SweepFolder, points: Sequence[Point], name: str, data_dir: Path | None) -> None:
    """Check that finished runs were trained on the examples that the others will be trained on.

    Args:
        folder: of the sweep.
        points: of the sweep.
        name: of the data set.
        data_dir: where data sets are kept; None for the default folder.

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


def notes_of_examples(outcomes: Iterable[Outcome]) -> list[str]:
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


def notes_of_starts(points: Iterable[Point], outcomes: Iterable[Outcome]) -> list[str]:
    """What the user should know where the weights that runs of a sweep begin with changed meanwhile."""
    first: dict[str, tuple[list[object], Path]] = {}
    notices: dict[str, str] = {}
    for point, outcome in zip(points, outcomes, strict=True):
        source = str(point.settings.get(INIT_KEY, point.preset))
        if record := (outcome.summary or {}).get("init_from"):
            own = weights_in(record)
            known, run = first.setdefault(source, (own, outcome.folder))
            if own != known:
                what = f"began with other weights of {source} than {run}, since that changed meanwhile"
                notices.setdefault(source, f"{outcome.folder} {what}; means include both.")
    return list(notices.values())
