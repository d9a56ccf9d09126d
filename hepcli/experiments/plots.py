"""Figures of a run; Matplotlib is loaded when one is drawn."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hepcli.experiments.figures import house_style, new_figure, save_figure


@house_style()
def plot_curves(history: Sequence[dict[str, Any]], file: Path, title: str) -> None:
    """Draw loss, error, residual, weight angle and homeostatic loss against the epoch as a PNG.

    Args:
        history: lines of metrics.jsonl, at least one.
        file: the PNG to write.
        title: above the panels.
    """
    from matplotlib.ticker import MaxNLocator

    epochs = [line["epoch"] for line in history]
    splits = [split for split in ("train", "validation", "test") if split in history[0]]
    panels: list[tuple[str, dict[str, list[float | None]]]] = [
        ("loss", {split: [line[split]["loss"] for line in history] for split in splits}),
        (
            "error / %",
            {split: [_error(line[split]["top1"]) for line in history] for split in splits},
        ),
        (
            "log10 residual",
            {
                "free, train": [line["train"]["log10_residual"] for line in history],
                "nudged, train": [line["train"]["nudged_log10_residual"] for line in history],
                "free, test": [line["test"]["log10_residual"] for line in history],
            },
        ),
        (
            "unsettled / %",
            {s: [_error(line[s]["settled"]) for line in history] for s in ("train", "test")}
            | {"their share of the signal, train": [_percent(line["train"]) for line in history]},
        ),
        (
            "weight angle / °",
            {"all pairs": [line["weight_angle_deg"] for line in history]} | _by_pair(history),
        ),
        ("homeostatic loss", {"test": [line["homeostatic_loss"] for line in history]}),
    ]
    figure = new_figure(11, 6, title, "large")
    for axes, (label, curves) in zip(figure.subplots(2, 3).flat, panels, strict=True):
        for name, values in curves.items():
            if any(value is not None for value in values):
                numbers = [float("nan") if value is None else value for value in values]
                axes.plot(epochs, numbers, label=name, marker="." if len(epochs) < 3 else "")
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if axes.lines:
            axes.legend(fontsize="small", loc="upper right")  # "best" warns where it takes a second
        else:
            axes.text(0.5, 0.5, "undefined here", ha="center", va="center", transform=axes.transAxes)
    save_figure(figure, file)


def _error(share: float | None) -> float | None:
    return None if share is None else 100 * (1 - share)


def _percent(train: dict[str, Any]) -> float | None:
    share = train.get("unsettled_signal_share")  # missing in lines of older runs
    return None if share is None else 100 * float(share)


def _by_pair(history: Sequence[dict[str, Any]]) -> dict[str, list[float | None]]:
    pairs = history[0]["weight_angle_deg_by_pair"]
    return {name: [line["weight_angle_deg_by_pair"][name] for line in history] for name in pairs}
