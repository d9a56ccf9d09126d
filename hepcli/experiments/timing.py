"""How long the epochs of a run took, and on what: timing.jsonl, and the lines of summary.json of it."""

import math
import platform
import statistics
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import jax

from hepcli.errors import OutputError
from hepcli.experiments.run_files import TIMING_FILE
from hepcli.experiments.run_folder import RunFolder


class EpochTime(NamedTuple):
    """How long an epoch was trained, without evaluation, measures and saving.

    Attributes:
        seconds: of all runs that are trained together.
        images_per_second: of each of them.
        is_whole: whether it was trained in one go.
        trained_together: the number of these runs.
    """

    seconds: float
    images_per_second: float
    is_whole: bool
    trained_together: int

    def line(self, epoch: int) -> dict[str, Any]:
        """What timing.jsonl says; what one took that was resumed half-way is unknown."""
        taken = self.seconds if self.is_whole else None
        rest = {"images_per_second": self.images_per_second, "trained_together": self.trained_together}
        return {"epoch": epoch, "seconds": taken, **rest}


def is_timing(line: Mapping[str, Any]) -> bool:
    """Whether a line of timing.jsonl is one that a run writes at the end of an epoch."""
    if type(line.get("epoch")) is not int or not {"seconds", "images_per_second"} <= line.keys():
        return False
    numbers = [line["images_per_second"], *([] if line["seconds"] is None else [line["seconds"]])]
    return all(type(number) in (int, float) and math.isfinite(number) for number in numbers)


def earlier_times(folder: RunFolder, num_epochs: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Read what the epochs of a resumed run took.

    Args:
        folder: of the run.
        num_epochs: that it has behind it.

    Returns:
        The lines of timing.jsonl up to there, and a notice where they are lost.
    """
    try:
        lines = folder.read_lines(TIMING_FILE)
    except OutputError as error:
        return [], [f"{error.what} The times of earlier epochs are lost."]
    if not all(map(is_timing, lines)):
        what = "lacks entries or contains invalid ones"
        return [], [f"{folder.path / TIMING_FILE} {what}: the times of earlier epochs are lost."]
    return [line for line in lines if line["epoch"] <= num_epochs], []


def timing_of(timing: Sequence[Mapping[str, Any]], num_epochs: int) -> dict[str, float | None]:
    """What summary.json says of time.

    Args:
        timing: lines of timing.jsonl.
        num_epochs: that were trained.

    Returns:
        `training_seconds`, null unless every epoch was timed as a whole, and `images_per_second`, the median
        over the epochs that were timed, of which the first holds the compilation; null of none; and
        `trained_together`, the number of runs that were, at most.
    """
    seconds = [line["seconds"] for line in timing]
    is_timed = len(seconds) == num_epochs and None not in seconds
    rates = [line["images_per_second"] for line in timing if line["images_per_second"]]
    return {
        "training_seconds": sum(seconds) if is_timed else None,
        "images_per_second": statistics.median(rates) if rates else None,
        "trained_together": max([line.get("trained_together", 1) for line in timing], default=1),
    }


def machine_of(devices: Sequence[jax.Device]) -> dict[str, Any]:
    """What summary.json says of what is trained on, and with."""
    packages = ("hepcli", "jax", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "devices": [device.device_kind for device in devices],
        "processes": jax.process_count(),
        "platform": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {package: version(package) for package in packages},
    }
