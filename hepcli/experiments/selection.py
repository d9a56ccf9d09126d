"""Which epoch of a run counts: the best on the validation examples, or without any the latest."""

from collections.abc import Sequence
from typing import Any


def best_epoch(history: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The first epoch of the highest accuracy on the validation examples.

    Args:
        history: lines of metrics.jsonl.

    Returns:
        Its line; None where no examples were held out.
    """
    rated = [line for line in history if "validation" in line]
    return max(rated, key=lambda line: line["validation"]["top1"], default=None)


def is_over(history: Sequence[dict[str, Any]], patience: int) -> bool:
    """Whether `patience` epochs in a row brought no higher accuracy; with 0 never."""
    best = best_epoch(history) if patience else None
    return best is not None and history[-1]["epoch"] - best["epoch"] >= patience


def selection(history: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What summary.json says of the epoch that counts.

    Args:
        history: lines of metrics.jsonl, at least one.

    Returns:
        `by` what it was chosen, `epoch` and `step`, and its `validation` (null without) and `test`.
    """
    best = best_epoch(history)
    line = history[-1] if best is None else best
    return {
        "by": "latest" if best is None else "validation_top1",
        "epoch": line["epoch"],
        "step": line["step"],
        "validation": line.get("validation"),
        "test": line["test"],
    }
