"""What `hep measure-asymmetry` found, as the data of its figures."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepcli.engine import CircleScan, estimator_of
from hepcli.experiments.figures.data import FigureData, Map, Panel, Scale, Series, numbers
from hepcli.training import BIASES, PICTURE_STEPS, Pictures, circle_of

_COMPARED = {
    "finite_nudge": "this run's estimator vs hep exact",
    "asymmetry": "hep exact vs rbp",
    "total": "this run's estimator vs rbp",
}
_LOWEST = 1e-15  # of logarithmic axes: rounding in float64
_SETTLED = 1e-6  # residual up to which a phase in the figures counts as settled


class PictureAxes(NamedTuple):
    """What the arrays of `Pictures` run over.

    Attributes:
        axis: real and imaginary parts of the stability map.
        radii: radii of the circles.
        numbers: numbers of points on them.
        method: the run's estimator.
        own_radius: the run's own nudge circle; None for a method without one.
        nudged_steps: the run's own, which the stability map takes.
    """

    axis: NDArray[np.float64]
    radii: Sequence[float]
    numbers: Sequence[int]
    method: str
    own_radius: float | None
    nudged_steps: int


def pictures_of(
    record: Mapping[str, Any], result: Pictures, axes: PictureAxes, caption: str
) -> dict[str, FigureData]:
    """The figures of one network.

    Args:
        record: its measures.
        result: what the pictures show.
        axes: what they run over.
        caption: the run's data set and settings.

    Returns:
        Name to figure; without a fixed point among the examples drawn, only the biases, and without complex
        nudges neither of the two over them.
    """
    where = "untrained" if record["checkpoint"] is None else f"epoch {record['epoch']:g}"
    figures = {"biases": _biases(record, where, f"{caption}; {examples_used(record)}")}
    if not result.kept.any():
        return figures
    few = f"{caption}; {where}; {int(result.kept.sum())} {record['split']} examples"
    one = f"{caption}; {where}; the first {record['split']} example with a fixed point"
    if result.jacobian is not None and result.one_step is not None:
        figures["spectrum"] = _spectrum(np.asarray(result.jacobian), np.asarray(result.one_step), one)
    if result.residual_map is not None:
        figures["stability-map"] = _stability_map(result, axes, few)
    if result.circles is not None:
        figures["convergence"] = _convergence(result.circles, np.asarray(result.kept), axes, few)
    return figures


def bias_name(bias: str, method: str) -> str:
    """A bias in the legend; hep exact nudges infinitely little, and differs by its finite steps alone.

    A method that aims at the true gradient has no bias of asymmetry: what involves hep exact only compares.
    """
    if estimator_of(method).limit == "rbp" and bias != "total":
        return f"for comparison: {_COMPARED[bias]}"
    is_exact = bias == "finite_nudge" and method == "hep_exact"
    if is_exact:
        return "finite steps (this run's hep exact vs converged)"
    return f"{bias.replace('_', ' ')} ({_COMPARED[bias]})"


def examples_used(record: Mapping[str, Any]) -> str:
    """How many examples of which split count, in words."""
    return f"{record['examples_used']} of {record['examples']} {record['split']} examples"


def _biases(record: Mapping[str, Any], where: str, caption: str) -> FigureData:
    """Cosine and relative error of the biases, a group a layer."""
    panels = []
    for measure, label in (("cosine", "cosine"), ("relative_error", "relative error")):
        layers = list(record[measure]["asymmetry"])
        errors = record["standard_error"][measure]
        series = tuple(
            Series(
                label=bias_name(bias, record["method"]),
                x=tuple(range(len(layers))),
                y=numbers(record[measure][bias][name] for name in layers),
                error=numbers(errors[bias][name] for name in layers),
            )
            for bias in BIASES
        )
        panels.append(
            Panel(
                kind="dots",
                x=Scale(label="layer", ticks=tuple(range(len(layers))), names=tuple(layers)),
                y=Scale(label=label, log=measure == "relative_error", include=(0.0, 1.0)),
                series=series,
                reference=1.0 if measure == "cosine" else None,
            )
        )
    has_signal = estimator_of(record["method"]).has_error_vector
    title = f"Bias {'of the' if has_signal else 'that hep exact would have in the'} error signal, {where}"
    caption += "; mean and standard error over examples"
    return FigureData(title=title, caption=caption, panels=tuple(panels), columns=2, shared_legend=True)


def _spectrum(jacobian: NDArray[Any], one_step: NDArray[Any], caption: str) -> FigureData:
    """The eigenvalues of J, and of the one-step map with the unit circle."""
    panels = []
    for matrix, name, circle in (
        (jacobian, "Jacobian, in activity coordinates", None),
        (one_step, "one synchronous step", 1.0),
    ):
        values = np.linalg.eigvals(matrix)
        panels.append(
            Panel(
                kind="plane",
                title=name,
                x=Scale(label="real part"),
                y=Scale(label="imaginary part"),
                series=(Series(x=numbers(values.real), y=numbers(values.imag)),),
                circle=circle,
                circle_label="stable inside" if circle else "",
            )
        )
    title = f"The {len(jacobian)} eigenvalues at the fixed point"
    return FigureData(title=title, caption=caption, panels=tuple(panels), columns=2)


def _stability_map(result: Pictures, axes: PictureAxes, caption: str) -> FigureData:
    """The residual over complex nudges, with the run's own circle."""
    kept = np.asarray(result.residual_map)[:, result.kept]
    upper = _log10(kept).max(axis=1).reshape(-1, len(axes.axis))  # rows: imaginary part from 0 up
    whole = np.concatenate([upper[:0:-1], upper])
    values = Map(
        axis=tuple(map(float, axes.axis)),
        values=tuple(numbers(row) for row in whole),
        label="log10 residual (worst example)",
        limits=_colour_limits(whole[np.isfinite(whole)]),
    )
    panel = Panel(
        kind="map",
        x=Scale(label="Re β"),
        y=Scale(label="Im β"),
        map=values,
        circle=axes.own_radius,
        circle_label=f"|β| = {axes.own_radius:g} (this run)" if axes.own_radius else "",
    )
    title = f"Residual after this run's {axes.nudged_steps} nudged steps{_of_hep(axes.method)}"
    return FigureData(title=title, caption=caption, panels=(panel,), columns=1)


def _of_hep(method: str) -> str:
    """Says in a title where nudged phases are those of `hep` because the method has none of its own."""
    return " of hep" if estimator_of(method).nudged_phases is None else ""


def _colour_limits(values: NDArray[Any]) -> tuple[float, float]:
    """Whole decades around nearly all values, at least two and none below -8: further in all is settled."""
    if not values.size:
        return -8.0, 0.0
    low, high = np.floor(np.percentile(values, 2)), np.ceil(np.percentile(values, 98))
    return float(max(low, -8.0)), float(max(high, max(low, -8.0) + 2))


def _convergence(circles: CircleScan, chosen: NDArray[Any], axes: PictureAxes, caption: str) -> FigureData:
    """The error of the Cauchy sum against N and |β|; open markers where the median phase is unsettled."""
    errors = np.median(np.asarray(circles.relative_error)[:, :, chosen], axis=-1)
    errors = np.maximum(errors, _LOWEST)
    residuals = np.median(np.asarray(circles.residual)[:, :, chosen], axis=-1)
    settled = residuals <= _SETTLED
    limit = circle_of(axes.method).limit.replace("_", " ")
    by_number = tuple(
        Series(
            label=f"|β| = {radius:g}" + (" (this run)" if radius == axes.own_radius else ""),
            x=numbers(axes.numbers),
            y=numbers(errors[row]),
            settled=tuple(map(bool, settled[row])),
        )
        for row, radius in enumerate(axes.radii)
    )
    by_radius = tuple(
        Series(
            label=f"N = {number}",
            x=numbers(axes.radii),
            y=numbers(errors[:, column]),
            settled=tuple(map(bool, settled[:, column])),
        )
        for column, number in enumerate(axes.numbers)
    )
    y = Scale(label=f"relative error to {limit}", log=True)
    panels = (
        Panel(kind="points", x=Scale(label="N", ticks=_ticks_at(axes.numbers)), y=y, series=by_number),
        Panel(
            kind="points",
            x=Scale(label="|β|", log=True, ticks=_ticks_at(axes.radii)),
            y=Scale(label="", log=True),
            series=by_radius,
        ),
    )
    caption += (
        f"; medians; open markers: not settled after {PICTURE_STEPS} steps (residual above {_SETTLED:g})"
    )
    title = f"How the Cauchy sum{_of_hep(axes.method)} converges with N and |β|"
    return FigureData(title=title, caption=caption, panels=panels, columns=2)


def _ticks_at(values: Sequence[float]) -> tuple[float, ...]:
    """Ticks at these values."""
    return tuple(map(float, values))


def _log10(values: NDArray[Any]) -> NDArray[Any]:
    logarithm: NDArray[Any] = np.log10(np.maximum(values, _LOWEST))
    return logarithm
