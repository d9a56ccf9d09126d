"""Figures of RESULTS.md from the runs kept in presets/results/, as `hep sweep --report` draws them."""

import json
from pathlib import Path
from typing import Any

from hepcli.config import load_config, load_sweep
from hepcli.experiments.figures.data import FigureData
from hepcli.experiments.figures.drawing import draw_figure
from hepcli.experiments.sweeps.collection import Collection, Outcome, views
from hepcli.experiments.sweeps.figure import figure_of
from tests.results.records import FOLDER

FIGURES = FOLDER.parents[1] / ".github" / "figures"


def draw(name: str, epochs: int | None = None) -> Path:
    """Draw the figure of presets/results/NAME.json."""
    file = FIGURES / f"{stem(name, epochs)}.png"
    draw_figure(figure(name, epochs), file)
    return file


def stem(name: str, epochs: int | None) -> str:
    """What its files are called."""
    return f"sweep-{name}" if epochs is None else f"sweep-{name}-{epochs}"


def figure(name: str, epochs: int | None = None) -> FigureData:
    """The figure of presets/results/NAME.json: after `epochs`, or those of the table with the most runs."""
    record = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    _, definition = load_sweep(record["sweep"])
    lengths = [run["epochs"] for run in record["runs"]]
    most = max(record["show"], key=lambda shown: (sum(shown <= length for length in lengths), shown))
    epochs = epochs or most
    preset = load_config(definition.sweep.preset).config
    dataset = str(definition.sweep.set.get("data.name", preset.data.name))
    outcomes = [_outcome(run, epochs, dataset) for run in record["runs"] if run["epochs"] >= epochs]
    axes = {
        axis: [label for label in labels if any(one.labels[axis] == label for one in outcomes)]
        for axis, labels in definition.labels.items()
    }
    return figure_of(Collection(definition.sweep.title, axes, outcomes, *views(definition)))


def _outcome(run: dict[str, Any], epochs: int, dataset: str) -> Outcome:
    """A run as its folder would give it, with what is kept of each epoch."""
    history = [
        {
            "epoch": epoch + 1,
            "test": {
                "top1": 1 - run["test_error"][epoch] / 100,
                "settled": run["test_settled"][epoch] if "test_settled" in run else None,
            },
            "train": {"top1": 1 - run["train_error"][epoch] / 100},
            "weight_angle_deg": run["weight_angle_deg"][epoch],
            "homeostatic_loss": run["homeostatic_loss"][epoch],
            "asymmetry": _asymmetry(run, epoch),
        }
        for epoch in range(epochs)
    ]
    summary = history[-1] | {"dataset": dataset, "epochs": epochs}
    return Outcome(Path(run["hash"]), run["labels"], run["seed"], summary, history, "done")


def _asymmetry(run: dict[str, Any], epoch: int) -> dict[str, Any] | None:
    """What was measured after an epoch, with `run.measure_examples`."""
    if "jacobian_symmetry" not in run:
        return None
    return {
        "jacobian_symmetry": run["jacobian_symmetry"][epoch],
        "cosine": {"total": run["signal_cosine"][epoch]},
        "gradient_cosine": run["gradient_cosine"][epoch],
    }
