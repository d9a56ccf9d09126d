"""The trials of a search, a file each: which place on every axis was chosen, and the runs that try it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from hepcli.errors import SweepError
from hepcli.experiments.sweeps.points import Point, is_point

TRIALS_FOLDER = "trials"
_TRIAL = re.compile(r"[0-9]{6}\.json")

Places = Mapping[str, str | float]
"""Axis to the label of a place on it, or to a number within its range."""


class Trial(NamedTuple):
    """A point of a search with its seeds.

    Attributes:
        number: from 0.
        places: that were chosen.
        points: a run for each seed; none where the configuration is not allowed.
        error: why it is not allowed, else None.
    """

    number: int
    places: Places
    points: list[Point]
    error: str | None


def read_trials(sweep: Path) -> list[Trial]:
    """The trials in the folder of a search so far, in order.

    Raises:
        SweepError: one is damaged.
    """
    folder = sweep / TRIALS_FOLDER
    if not folder.is_dir():
        return []
    return [_read(file) for file in sorted(folder.iterdir()) if _TRIAL.fullmatch(file.name)]


def trial_file(sweep: Path, number: int) -> Path:
    """Where a trial is written."""
    return sweep / TRIALS_FOLDER / f"{number:06d}.json"


def trial_text(trial: Trial) -> str:
    """A trial as it is written."""
    record = trial._asdict() | {"points": [point._asdict() for point in trial.points]}
    return json.dumps(record, indent=1, ensure_ascii=False) + "\n"


def _read(file: Path) -> Trial:
    record: object = None
    try:
        record = json.loads(file.read_bytes())
    except (ValueError, RecursionError):  # neither JSON nor text
        record = None
    if not isinstance(record, dict) or not _is_trial(record, int(file.stem)):
        raise SweepError(
            f"{file} is damaged.", "Delete it and run the command that started the search again."
        )
    return Trial(**record | {"points": [Point(**point) for point in record["points"]]})


def _is_trial(record: Mapping[str, object], number: int) -> bool:
    if record.keys() != set(Trial._fields) or record["number"] != number:
        return False
    places, points, error = record["places"], record["points"], record["error"]
    if not isinstance(places, dict) or not all(type(place) in (str, int, float) for place in places.values()):
        return False
    is_listed = isinstance(points, list) and all(map(is_point, points))
    return is_listed and (bool(points) if error is None else type(error) is str)
