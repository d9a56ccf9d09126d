"""What a run reports while it goes on."""

from pathlib import Path
from typing import Any, NamedTuple


class RunStarted(NamedTuple):
    """The run folder is ready; `epochs_done` of `epochs` are behind us. `notices` are for the user."""

    folder: Path
    epochs: int
    epochs_done: int
    history: tuple[dict[str, Any], ...]
    notices: tuple[str, ...]


class BatchDone(NamedTuple):
    """A training step was dispatched."""

    epoch: int
    batch: int
    num_batches: int


class EpochDone(NamedTuple):
    """An epoch's line of metrics.jsonl, and what the clock said. `notices` are for the user."""

    metrics: dict[str, Any]
    seconds: float
    images_per_second: float
    notices: tuple[str, ...] = ()


class Interrupted(NamedTuple):
    """The run was stopped and saved; `command` continues it."""

    folder: Path
    command: str


class Finished(NamedTuple):
    """The run is complete; `notices` are for the user, `data_dir` is where it was told that data sets are."""

    folder: Path
    summary: dict[str, Any]
    notices: tuple[str, ...] = ()
    data_dir: Path | None = None


TrainEvent = RunStarted | BatchDone | EpochDone | Interrupted | Finished
_NEWER_NAMES = {"converged": "settled", "nudged_converged": "nudged_settled", "sweeps": "passes"}


def newer_line(line: dict[str, Any]) -> dict[str, Any]:
    """A line of metrics.jsonl under today's names; before the first release a few keys had others."""
    named: dict[str, Any] = {
        split: {_NEWER_NAMES.get(key, key): value for key, value in line[split].items()}
        for split in ("train", "test")
        if split in line
    }
    return line | named


OLDER_LEAVES = {
    ".totals['passes']": ".totals['sweeps']",
    ".totals['settled']": ".totals['converged']",
    ".totals['nudged_settled']": ".totals['nudged_converged']",
    ".totals['signal']": None,
    ".totals['unsettled_signal']": None,
}
"""What leaves of a state were called in earlier checkpoints; None where there were none."""
