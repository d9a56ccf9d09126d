"""What `hep measure-asymmetry` found over a run's epochs, as the data of a figure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hepcli.experiments.figures.captions import IN_VIEW, RESIDUAL_SPAN, RIGHT_ANGLE
from hepcli.experiments.figures.data import FigureData, Panel, Scale, Series, numbers
from hepcli.experiments.figures.pictures import bias_name, examples_used
from hepcli.experiments.figures.style import BLACK
from hepcli.settings import MEASURES
from hepcli.training import BIASES

_GRADIENT = "parameter gradient (this run's estimator vs bptt)"
_IN_VIEW = {
    "jacobian_symmetry": IN_VIEW["symmetry"],
    "homeostatic_loss": IN_VIEW["loss"],
    "spectral_radius": (1.0,),
    "log10_residual": RESIDUAL_SPAN,
}
_REFERENCE = {"spectral_radius": 1.0}


def along_run(records: Sequence[Mapping[str, Any]], caption: str) -> FigureData:
    """S, angle, cosines, biases and test error against the epoch, a panel for each that is defined."""
    epochs = numbers(record["epoch"] for record in records)
    test_error = [None if r["test_top1"] is None else 100 * (1 - r["test_top1"]) for r in records]
    panels = [
        ("test error / %", IN_VIEW["error"], None, [Series(x=epochs, y=numbers(test_error), look=BLACK)]),
        ("weight angle / °", IN_VIEW["angle"], None, [_series(records, epochs, "weight_angle_deg")]),
        *(
            (measure.title, _IN_VIEW.get(key, ()), _REFERENCE.get(key), [_series(records, epochs, key)])
            for key, measure in MEASURES.items()
        ),
        (
            "cosine",
            IN_VIEW["cosine"],
            None,
            [*_by_bias(records, epochs, "cosine"), _gradient(records, epochs)],
        ),
        ("relative error", (), None, [*_by_bias(records, epochs, "relative_error")]),
    ]
    shown = tuple(
        Panel(
            kind="points",
            x=Scale(label="epoch", integer=True),
            y=Scale(
                label=label,
                include=include,
                log=label == "relative error",
                ticks=RIGHT_ANGLE if label.endswith("°") else None,
            ),
            series=tuple(series),
            reference=reference,
        )
        for label, include, reference, series in panels
        if any(value is not None for one in series for value in one.y)
    )
    caption += f"; {examples_used(records[-1])} at the end (test error: all); error bars: standard error"
    title = "Asymmetry over training"
    return FigureData(title=title, caption=caption, panels=shown, columns=4, shared_legend=True)


def _series(records: Sequence[Mapping[str, Any]], epochs: tuple[float | None, ...], key: str) -> Series:
    errors = numbers(record["standard_error"].get(key) for record in records)
    return Series(x=epochs, y=numbers(record[key] for record in records), error=errors, look=BLACK)


def _by_bias(
    records: Sequence[Mapping[str, Any]], epochs: tuple[float | None, ...], measure: str
) -> Iterator[Series]:
    for look, bias in enumerate(BIASES):
        yield Series(
            label=bias_name(bias, records[-1]["method"]),
            x=epochs,
            y=numbers(record[measure][bias]["total"] for record in records),
            error=numbers(record["standard_error"][measure][bias]["total"] for record in records),
            look=look,
        )


def _gradient(records: Sequence[Mapping[str, Any]], epochs: tuple[float | None, ...]) -> Series:
    cosines = numbers(record["gradient_cosine"]["total"] for record in records)
    return Series(label=_GRADIENT, x=epochs, y=cosines, look=len(BIASES))
