"""How the cost of a training step grows: images a second against batch size, width, depth, steps and devices.

Run: python tests/benchmarks/scaling.py --out scaling.png    (on all cores; about five minutes on two)

The network of `fashion-mnist` with one of them changed at a time, fresh weights, N = 2; medians of five
rounds of steps, the plain solver beside Anderson mixing with a tolerance of 1e-5. The numbers lie beside the
picture as JSON. Devices are cores: a single one of the axis of devices has one core to itself, and more
devices than cores share them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

FAST = ("relaxation.solver=anderson", "relaxation.tolerance=1e-5",
        "relaxation.nudged_solver=alternating", "relaxation.nudged_tolerance=0.0")  # fmt: skip
AXES = {
    "batch size": [16, 50, 128, 256, 512, 1024],
    "width": [64, 128, 256, 512, 1024, 2048],
    "depth": [2, 3, 4, 6, 8],
    "free steps": [50, 150, 500, 1500],
    "devices": [1, 2, 4],
}
ROUNDS, SECONDS = 5, 0.6


def layers(depth: int) -> list[str]:
    """Overrides that make the network `depth` hidden layers deep."""
    names = [f"l{number + 1}" for number in range(depth)] + ["out"]
    tables = ", ".join(f"{name} = {{ units = {10 if name == 'out' else 256} }}" for name in names)
    pairs = ["in-l1"]
    for lower, upper in pairwise(names):
        pairs += [f"{lower}-{upper}", f"{upper}-{lower}"]
    return [f"network.layers={{ {tables} }}", f"network.connections={json.dumps(pairs)}"]


def overrides(axis: str, value: int) -> list[str]:
    return {
        "batch size": [f"data.batch_size={value}"],
        "width": [f"network.layers.l1.units={value}", f"network.layers.l2.units={value}"],
        "depth": layers(value),
        "free steps": [f"relaxation.free_steps={value}"],
        "devices": [f"run.devices={value}", "data.batch_size=256"],
    }[axis]


def one(settings: list[str]) -> dict:
    """Images a second of a configuration; in a process of its own."""
    if "run.devices=1" in settings:  # else XLA would share its work among all cores
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import jax
    import numpy as np

    from hepcli.config import load_config
    from hepcli.experiments.task import Task

    config = load_config("fashion-mnist", ["data.name=fashion_mnist_mini", *settings]).config
    task = Task(config)
    step, state = task.train_step([config]), task.layout.replicate(task.fresh_state(config))
    size, rng = config.data.batch_size, np.random.default_rng(0)
    batches = list(task.feed("train").batches(rng.permutation(5000)[:size] for _ in range(8)))

    def run(steps: int) -> float:
        nonlocal state
        started = time.perf_counter()
        for number in range(steps):
            state, _ = step(state, *batches[number % len(batches)])
        jax.block_until_ready(state)
        return (time.perf_counter() - started) / steps

    run(1)
    steps = max(1, int(SECONDS / run(2)))
    rates = sorted(size / run(steps) for _ in range(ROUNDS))
    return {
        "rate": statistics.median(rates),
        "range": [rates[0], rates[-1]],
        "devices": task.layout.num_devices,
    }


def draw(found: dict, file: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(AXES), figsize=(3 * len(AXES), 3), sharey=True, layout="constrained")
    for panel, (axis, values) in zip(panels, AXES.items(), strict=True):
        for kind, marker, style in (("plain", "o", "-"), ("anderson", "s", "--")):
            rates = [found[axis][str(value)][kind]["rate"] for value in values]
            panel.plot(values, rates, marker=marker, linestyle=style, label=kind)
        panel.set(xlabel=axis, xscale="log", yscale="log", xticks=values, xticklabels=map(str, values))
        panel.minorticks_off()
    panels[0].set_ylabel("images / s")
    panels[0].legend()
    figure.savefig(file, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("scaling.png"))
    parser.add_argument("--one", nargs="+")
    parser.add_argument("--axis", choices=AXES, help="measure this one, and keep the others' numbers")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one)))
        return
    numbers = options.out.with_suffix(".json")
    found: dict = json.loads(numbers.read_text()) if options.axis else {}
    for axis, values in AXES.items():
        if options.axis not in (None, axis):
            continue
        found[axis] = {}
        for value in values:
            kinds = {"plain": [], "anderson": list(FAST)}
            found[axis][str(value)] = {
                kind: json.loads(
                    subprocess.run(
                        [sys.executable, __file__, "--one", *overrides(axis, value), *more],
                        check=True, capture_output=True, text=True,
                    ).stdout
                )
                for kind, more in kinds.items()
            }  # fmt: skip
            print(axis, value, {k: round(v["rate"]) for k, v in found[axis][str(value)].items()}, flush=True)
    numbers.write_text(json.dumps(found, indent=1))
    draw(found, options.out)


if __name__ == "__main__":
    main()
