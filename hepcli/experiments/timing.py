"""How long the epochs of a run took, and on what: timing.jsonl, and the lines of summary.json of it."""

import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import jax


def is_timing(line: Mapping[str, Any]) -> bool:
    """Whether a line of timing.jsonl is one that a run writes at the end of an epoch."""
    if type(line.get("epoch")) is not int or not {"seconds", "images_per_second"} <= line.keys():
        return False
    numbers = [line["images_per_second"], *([] if line["seconds"] is None else [line["seconds"]])]
    return all(type(number) in (int, float) and math.isfinite(number) for number in numbers)


def timing_of(timing: Sequence[Mapping[str, Any]], num_epochs: int) -> dict[str, float | None]:
    """What summary.json says of time.

    Args:
        timing: lines of timing.jsonl.
        num_epochs: that were trained.

    Returns:
        `training_seconds`, null unless every epoch was timed as a whole, and `images_per_second`, the median
        over the epochs that were timed, of which the first holds the compilation; null of none.
    """
    seconds = [line["seconds"] for line in timing]
    is_timed = len(seconds) == num_epochs and None not in seconds
    rates = sorted(line["images_per_second"] for line in timing if line["images_per_second"])
    return {
        "training_seconds": sum(seconds) if is_timed else None,
        "images_per_second": rates[len(rates) // 2] if rates else None,
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
