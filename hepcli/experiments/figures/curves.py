"""The curves of a run, as the data of a figure."""

from collections.abc import Sequence
from typing import Any

from hepcli.experiments.figures.captions import IN_VIEW, RESIDUAL_SPAN, RIGHT_ANGLE
from hepcli.experiments.figures.data import FigureData, Panel, Scale, Series, numbers

_Curves = dict[str, list[float | None]]


def curves_of(history: Sequence[dict[str, Any]], title: str, caption: str = "") -> FigureData:
    """Loss, error, residual, unsettled examples, weight angle and homeostatic loss against the epoch.

    Args:
        history: lines of metrics.jsonl, at least one.
        title: above the panels.
        caption: below the title.

    Returns:
        A panel for each of them that is defined.
    """

    def of(split: str, key: str) -> list[float | None]:
        return [line[split].get(key) for line in history]

    splits = [split for split in ("train", "validation", "test") if split in history[0]]
    panels: list[tuple[Scale, _Curves]] = [
        (
            Scale(label="loss", include=IN_VIEW["loss"]),
            {split: of(split, "loss") for split in splits},
        ),
        (
            Scale(label="error / %", include=IN_VIEW["error"]),
            {split: _missing(of(split, "top1")) for split in splits},
        ),
        (
            Scale(label="log10 residual", include=RESIDUAL_SPAN),
            {
                "free phase, train": of("train", "log10_residual"),
                "free phase, test": of("test", "log10_residual"),
                "nudged phases, train": of("train", "nudged_log10_residual"),
            },
        ),
        (
            Scale(label="unsettled / %", include=IN_VIEW["share"]),
            {f"{split} examples": _missing(of(split, "settled")) for split in splits}
            | {"share of the error signal": _percent(of("train", "unsettled_signal_share"))},
        ),
        (
            Scale(label="weight angle / °", include=IN_VIEW["angle"], ticks=RIGHT_ANGLE),
            {"all pairs": [line["weight_angle_deg"] for line in history]} | _by_pair(history),
        ),
        (
            Scale(label="homeostatic loss, test", include=IN_VIEW["loss"]),
            {"": [line["homeostatic_loss"] for line in history]},
        ),
    ]
    epochs = numbers(line["epoch"] for line in history)
    drawn = [_panel(scale, curves, epochs) for scale, curves in panels]
    shown = tuple(panel for panel in drawn if panel.series)
    return FigureData(title=title, caption=caption, panels=shown, columns=3)


def _panel(scale: Scale, curves: _Curves, epochs: tuple[float | None, ...]) -> Panel:
    defined = {name: values for name, values in curves.items() if any(value is not None for value in values)}
    return Panel(
        kind="curves",
        x=Scale(label="epoch", integer=True),
        y=scale,
        series=tuple(Series(label=name, x=epochs, y=numbers(values)) for name, values in defined.items()),
    )


def _missing(shares: list[float | None]) -> list[float | None]:
    """What is missing to all, in percent."""
    return [None if share is None else 100 * (1 - share) for share in shares]


def _percent(shares: list[float | None]) -> list[float | None]:
    return [None if share is None else 100 * share for share in shares]


def _by_pair(history: Sequence[dict[str, Any]]) -> _Curves:
    pairs = history[0]["weight_angle_deg_by_pair"]
    if len(pairs) < 2:
        return {}
    return {name: [line["weight_angle_deg_by_pair"][name] for line in history] for name in pairs}
