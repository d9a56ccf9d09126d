"""How large each example's learning signal is, beside its spectral radius: figure and numbers of RESULTS.md.

Run: python -m tests.results.signals SWEEP_FOLDER [STEP]    (a minute on two cores for ten dense runs)

For the first 2,000 training images, hep exact, the run's own free phase: the norm of the error vector over
all layers, its ratio to the output's error ‖p − y‖ (p: softmax of the scores, y: one-hot), the spectral
radius of a synchronous step at the end of the free phase (Arnoldi, 32 vectors), and whether it has settled.
"""

import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

import hepcli
from hepcli.engine import leading_eigenvalues, step_product
from hepcli.experiments.figures.data import FigureData, Panel, Scale, Series, numbers
from hepcli.experiments.figures.drawing import draw_figure
from hepcli.experiments.figures.style import BLACK
from hepcli.training import normalizer
from tests.results.records import FOLDER

EXAMPLES, BATCH, VECTORS, BINS = 2_000, 500, 32, 12
FIGURE = Path(__file__).parents[2] / ".github" / "figures" / "signals.png"
Columns = dict[str, NDArray[Any]]


def main() -> None:
    """Measure every run of a sweep, and keep and draw what came of it."""
    folder, step = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None
    points = json.loads((folder / "points.json").read_text(encoding="utf-8"))
    kept: dict[str, list[dict[str, Any]]] = {}
    columns: dict[str, list[Columns]] = {}
    for point in points:
        run = hepcli.load_run(folder / "runs" / point["folder"], step)
        label = ", ".join(f"{axis} = {float(value):g}" for axis, value in point["labels"].items())
        measured = measure(run)
        columns.setdefault(label, []).append(measured)
        kept.setdefault(label, []).append({"seed": point["seed"], "step": run.step, **numbers_of(measured)})
        print(label, json.dumps(kept[label][-1]), flush=True)
    record = {"command": "python -m tests.results.signals", "examples": EXAMPLES, "groups": kept}
    file = FOLDER / "signals.json"
    file.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draw_figure(figure({label: joined(own) for label, own in sorted(columns.items())}), FIGURE)


def measure(run: hepcli.Run) -> Columns:
    """Of every example: signal, gain (signal over the output's error), radius, settled."""
    images, labels, *_ = run.split("train")
    parts = []
    for start in range(0, EXAMPLES, BATCH):
        own, given = images[start : start + BATCH], labels[start : start + BATCH].astype(np.int32)
        estimate = hepcli.estimate(run, own, given, "hep_exact")
        states = run.states(own)
        flat = np.concatenate([np.reshape(v, (len(own), -1)) for v in estimate.error_vector.values()], axis=1)
        errors = np.asarray(jax.nn.softmax(states.scores)) - np.eye(states.scores.shape[1])[given]
        parts.append({
            "signal": np.linalg.norm(flat, axis=1),
            "error": np.linalg.norm(errors, axis=1),
            "radius": radius(run, own, states.pre_activations),
            "settled": np.asarray(states.settled),
        })  # fmt: skip
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {**whole, "gain": whole["signal"] / whole["error"]}


def radius(run: hepcli.Run, images: NDArray[np.uint8], state: dict[str, NDArray[np.float32]]) -> NDArray[Any]:
    """Spectral radius of a synchronous step, example by example."""
    data = run.config.data
    inputs = normalizer(data)(jnp.asarray(images))
    constant = run.network.input_drive(run.weights_as_read, inputs)
    at = {name: jnp.asarray(state[name]) for name in run.network.layers}
    product = step_product(run.network, run.weights_as_read, constant, at)
    values, _ = leading_eigenvalues(product, at, jax.random.key(0), VECTORS)
    return np.abs(np.asarray(values))


def numbers_of(own: Columns) -> dict[str, float]:
    """What RESULTS.md says of a run."""
    order = np.argsort(own["signal"])[::-1]
    top = order[: len(order) // 100]
    total = own["signal"].sum()
    near = own["radius"] > 0.97
    found = {
        "radius_median": np.median(own["radius"]),
        "radius_99": np.quantile(own["radius"], 0.99),
        "rank_correlation_gain": spearmanr(own["radius"], own["gain"]).statistic,
        "rank_correlation_error": spearmanr(own["error"], own["signal"]).statistic,
        "gain_median": np.median(own["gain"]),
        "gain_99": np.quantile(own["gain"], 0.99),
        "share_of_top_hundredth": own["signal"][top].sum() / total,
        "settled_among_top": own["settled"][top].mean(),
        "share_of_unsettled": own["signal"][~own["settled"]].sum() / total,
        "unsettled": (~own["settled"]).mean(),
        "share_near_critical": own["signal"][near].sum() / total,
        "near_critical": near.mean(),
    }
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def joined(several: list[Columns]) -> Columns:
    """The examples of several seeds together."""
    return {name: np.concatenate([one[name] for one in several]) for name in several[0]}


def figure(groups: dict[str, Columns]) -> FigureData:
    """Gain against the distance from criticality, and how the signal is shared out."""
    gains, shares = [], []
    for label, own in groups.items():
        distance = np.clip(np.abs(1 - own["radius"]), 1e-3, None)
        edges = np.quantile(distance, np.linspace(0, 1, BINS + 1))
        bins = np.clip(np.searchsorted(edges, distance, side="right") - 1, 0, BINS - 1)
        middle = [np.median(distance[bins == one]) for one in range(BINS)]
        gains.append(
            Series(
                label=label, x=numbers(middle),
                y=numbers(np.median(own["gain"][bins == one]) for one in range(BINS)),
            )
        )  # fmt: skip
        largest = np.sort(own["signal"])[::-1]
        parts = np.geomspace(0.001, 1, BINS)
        counts = np.maximum(1, (parts * len(largest)).astype(int))
        shares.append(
            Series(
                label=label, x=numbers(100 * parts),
                y=numbers(100 * largest[:count].sum() / largest.sum() for count in counts),
            )
        )  # fmt: skip
    gains.append(inverse_distance(gains[0]))
    panels = (
        Panel(kind="points", x=Scale(label="|1 − ρ|, distance from criticality", log=True),
              y=Scale(label="signal / output error, median", log=True), series=tuple(gains)),
        Panel(kind="points", x=Scale(label="examples with the largest signals / %", log=True),
              y=Scale(label="their share of the signal / %", include=(0.0, 100.0)), series=tuple(shares)),
    )  # fmt: skip
    caption = (
        "Fashion-MNIST (full); hep exact, λ = 0 and 1, the networks of Figure 4 a–d, seeds together; "
        f"{EXAMPLES:,} training images a network; bins of equal counts on the left"
    )
    return FigureData(title="Who carries the error signal", caption=caption, panels=panels, columns=2)


def inverse_distance(gain: Series) -> Series:
    """What a signal that grows like 1/(1 − ρ) would be, from the most critical bin on."""
    x, y = np.asarray(gain.x, float), np.asarray(gain.y, float)
    return Series(label="∝ 1/(1 − ρ)", x=gain.x, y=numbers(y[0] * x[0] / x), look=BLACK)


if __name__ == "__main__":
    main()
