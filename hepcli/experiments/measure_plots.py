"""Figures of `hep measure-asymmetry`; Matplotlib is loaded when one is drawn."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepcli.experiments.figures import house_style, new_figure, save_figure
from hepcli.settings import MEASURES
from hepcli.training import BIASES, PICTURE_STEPS, Pictures, circle_of

_NAMES = {
    "finite_nudge": "finite nudge (this run's estimator vs hep exact)",
    "asymmetry": "asymmetry (hep exact vs rbp)",
    "total": "total (this run's estimator vs rbp)",
}
_GRADIENT = "gradient (this run's estimator vs bptt)"
_Curve = tuple[list[float | None], list[float | None]]  # values and their standard errors
_LOWEST = 1e-15  # of logarithmic axes: rounding in float64


class PictureAxes(NamedTuple):
    """What the arrays of `Pictures` run over.

    Attributes:
        axis: real and imaginary parts of the stability map.
        radii: radii of the circles.
        numbers: numbers of points on them.
        method: the run's estimator.
        own_radius: the run's own nudge circle; None for a method without one.
    """

    axis: NDArray[np.float64]
    radii: Sequence[float]
    numbers: Sequence[int]
    method: str
    own_radius: float | None


@house_style()
def draw_pictures(record: dict[str, Any], result: Pictures, axes: PictureAxes, folder: Path) -> list[str]:
    """Draw the figures of one network.

    Args:
        record: its measures.
        result: what the pictures show.
        axes: what they run over.
        folder: where the PNGs go.

    Returns:
        The names of the files; without a fixed point among the examples drawn, only the biases.
    """
    title = _title(record)
    draw_biases(record, folder / "biases.png", title)
    files = ["biases.png"]
    if not result.kept.any():
        return files
    if result.jacobian is not None and result.one_step is not None:
        draw_spectrum(
            np.asarray(result.jacobian), np.asarray(result.one_step), folder / "spectrum.png", title
        )
        files.append("spectrum.png")
    draw_stability_map(result, axes, folder / "stability-map.png", title)
    draw_convergence(result, axes, folder / "convergence.png", title)
    return [*files, "stability-map.png", "convergence.png"]


@house_style()
def draw_biases(record: dict[str, Any], file: Path, title: str) -> None:
    """Draw cosine and relative error of the biases as bars, a group a layer."""
    figure = new_figure(10, 4, title)
    for axes, measure in zip(figure.subplots(1, 2), ("cosine", "relative_error"), strict=True):
        layers = list(record[measure]["asymmetry"])
        for index, bias in enumerate(BIASES):
            values = _numbers(record[measure][bias][name] for name in layers)
            errors = _numbers(record["standard_error"][measure][bias][name] for name in layers)
            places = np.arange(len(layers)) + 0.27 * (index - 1)
            axes.bar(places, values, 0.27, yerr=errors, capsize=2, label=_NAMES[bias])
        axes.set_xticks(range(len(layers)), layers)
        axes.set_ylabel(measure.replace("_", " "))
        axes.grid(axis="y", alpha=0.3)
    figure.axes[0].axhline(1, color="grey", linewidth=0.8)
    figure.axes[1].set_yscale("log")
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize="small")
    save_figure(figure, file)


@house_style()
def draw_spectrum(jacobian: NDArray[Any], one_step: NDArray[Any], file: Path, title: str) -> None:
    """Draw the eigenvalues of J, and of the one-step map beside the unit circle."""
    figure = new_figure(10, 4.6, title)
    left, right = figure.subplots(1, 2)
    circle = np.exp(2j * np.pi * np.linspace(0, 1, 200))
    for axes, matrix, name in (
        (left, jacobian, "J, activity coordinates"),
        (right, one_step, "one step at the fixed point"),
    ):
        values = np.linalg.eigvals(matrix)
        axes.plot(values.real, values.imag, ".", markersize=4, alpha=0.7)
        axes.set(title=f"{name}, {len(values)} eigenvalues", xlabel="real part", ylabel="imaginary part")
        axes.axhline(0, color="grey", linewidth=0.5)
        axes.set_aspect("equal", adjustable="datalim")
    right.plot(circle.real, circle.imag, color="black", linewidth=0.8, label="stable inside")
    right.legend(fontsize="small", loc="upper right")
    save_figure(figure, file)


@house_style()
def draw_stability_map(result: Pictures, axes: PictureAxes, file: Path, title: str) -> None:
    """Draw the residual over complex nudges, with the run's own circle."""
    kept = np.asarray(result.residual_map)[:, result.kept]
    upper = _log10(kept).max(axis=1).reshape(-1, len(axes.axis))  # rows: imaginary part from 0 up
    whole = np.concatenate([upper[:0:-1], upper])
    figure = new_figure(5.6, 4.8, title)
    plot = figure.subplots()
    image = plot.pcolormesh(axes.axis, axes.axis, whole, shading="nearest", cmap="viridis", vmin=-12, vmax=0)
    figure.colorbar(image, extend="both", label=f"log10 residual after {PICTURE_STEPS} nudged steps")
    if axes.own_radius:
        circle = axes.own_radius * np.exp(2j * np.pi * np.linspace(0, 1, 200))
        plot.plot(circle.real, circle.imag, color="red", label=f"|β| = {axes.own_radius:g}, this run's")
        plot.legend(fontsize="small", loc="upper right")
    plot.set(xlabel="Re β", ylabel="Im β", aspect="equal", title=f"worst of {kept.shape[1]} examples")
    save_figure(figure, file)


@house_style()
def draw_convergence(result: Pictures, axes: PictureAxes, file: Path, title: str) -> None:
    """Draw the error of the Cauchy sum against N and against |β|; open where phases did not settle."""
    errors = np.median(np.asarray(result.circles.relative_error)[:, :, result.kept], axis=-1)
    settled = np.asarray(np.asarray(result.circles.residual)[:, :, result.kept].max(axis=-1) <= 1e-6)
    figure = new_figure(10, 4.6, title)
    by_number, by_radius = figure.subplots(1, 2, sharey=True)
    limit = circle_of(axes.method).limit.replace("_", " ")
    for index, radius in enumerate(axes.radii):
        own = ", this run's" if radius == axes.own_radius else ""
        _curve(by_number, axes.numbers, errors[index], settled[index], f"|β| = {radius:g}{own}")
    for index, number in enumerate(axes.numbers):
        _curve(by_radius, axes.radii, errors[:, index], settled[:, index], f"N = {number}")
    by_number.set(xlabel="N", yscale="log", ylabel=f"relative error to {limit} (median)")
    by_number.set_xticks(axes.numbers)
    by_radius.set(xlabel="|β|", xscale="log", yscale="log")
    for plot in (by_number, by_radius):
        plot.grid(alpha=0.3)
        plot.legend(fontsize="x-small", loc="upper right" if plot is by_number else "lower right")
    figure.text(0.5, -0.02, f"open markers: not settled after {PICTURE_STEPS} steps", ha="center")
    save_figure(figure, file, bbox_inches="tight")


@house_style()
def draw_along(records: Sequence[dict[str, Any]], folder: Path) -> list[str]:
    """Draw S, angle, cosines, biases and test error against the epoch; returns the file's name."""
    errors = [record["standard_error"] for record in records]

    def biases(measure: str) -> dict[str, _Curve]:
        return {
            _NAMES[bias]: (
                [r[measure][bias]["total"] for r in records],
                [e[measure][bias]["total"] for e in errors],
            )
            for bias in BIASES
        }

    def single(name: str) -> dict[str, _Curve]:
        return {name: ([r[name] for r in records], [e.get(name) for e in errors])}

    gradient = [r["gradient_cosine"]["total"] for r in records]
    test_error = [None if r["test_top1"] is None else 100 * (1 - r["test_top1"]) for r in records]
    panels = [
        ("weight angle / °", single("weight_angle_deg")),
        *((measure.title, single(key)) for key, measure in MEASURES.items()),
        ("cosine", biases("cosine") | {_GRADIENT: (gradient, [None] * len(records))}),
        ("relative error", biases("relative_error")),
        ("test error / %", {"test": (test_error, [None] * len(records))}),
    ]
    figure = new_figure(15, 6.5, f"{records[0]['dataset']}, {records[0]['method']}: along the run")
    for axes, (label, curves) in zip(figure.subplots(2, 4, sharex=True).flat, panels, strict=True):
        _draw_curves(axes, [record["epoch"] for record in records], curves)
        axes.set(xlabel="epoch", ylabel=label)
        if label == "relative error" and axes.lines:
            axes.set_yscale("log")
    save_figure(figure, folder / "along-run.png")
    return ["along-run.png"]


def _draw_curves(axes: Any, epochs: Sequence[float], curves: dict[str, _Curve]) -> None:
    """Lines with standard errors; dashes keep one that lies on another visible."""
    drawn = 0
    for name, (values, errors) in curves.items():
        if any(value is not None for value in values):
            style = {"linestyle": "--" if name == _NAMES["total"] else "-", "marker": ".", "capsize": 2}
            axes.errorbar(epochs, _numbers(values), yerr=_numbers(errors), label=name, **style)
            drawn += 1
    axes.grid(alpha=0.3)
    if drawn > 1:
        axes.legend(fontsize="x-small")
    elif not drawn:
        axes.text(0.5, 0.5, "undefined here", ha="center", va="center", transform=axes.transAxes)


def _title(record: dict[str, Any]) -> str:
    where = "untrained" if record["checkpoint"] is None else f"step {record['step']}"
    return f"{record['dataset']}, {record['method']}, {where}"


def _curve(axes: Any, x: Sequence[float], y: NDArray[Any], settled: NDArray[Any], label: str) -> None:
    """A line with filled markers where all phases settled, open ones elsewhere."""
    y = np.maximum(y, _LOWEST)
    (line,) = axes.plot(x, y, marker="o", markersize=5, label=label)
    open_at = [i for i, flag in enumerate(settled) if not flag]
    axes.plot(
        np.asarray(x)[open_at], y[open_at], "o", markersize=5, color=line.get_color(), markerfacecolor="white"
    )


def _numbers(values: Any) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _log10(values: NDArray[Any]) -> NDArray[Any]:
    logarithm: NDArray[Any] = np.log10(np.maximum(values, _LOWEST))
    return logarithm
