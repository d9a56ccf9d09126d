"""Training speed of the free phase: plain, to a tolerance, and with Anderson mixing, in images a second.

Run: python tests/benchmarks/speed.py    (--other DIR adds the plain setting of a checkout of another version)

Workers take an epoch's first steps to warm up, then rounds in turn, one at a time; the ratio of each round is
taken within it, to the plain setting on one device, which has one core.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS, STEPS, WARM_UP = 7, 100, 1200
PLAIN = ("relaxation.solver=alternating", "relaxation.tolerance=0.0")
TOLERANCE = ("relaxation.solver=alternating", "relaxation.tolerance=1e-5", "relaxation.nudged_tolerance=0.0")
MIXING = ("relaxation.solver=anderson", "relaxation.nudged_solver=alternating", *TOLERANCE[1:])
SETTINGS = {
    "plain, 1 core": (*PLAIN, "run.devices=1"),
    "tolerance, 1 core": (*TOLERANCE, "run.devices=1"),
    "mixing, 1 core": (*MIXING, "run.devices=1"),
    "plain": PLAIN,
    "tolerance": TOLERANCE,
    "mixing": MIXING,
}
METHODS = {
    "hep, N = 2": ("fashion-mnist",),
    "hep exact": ("fashion-mnist-homeostasis", "homeostasis.weight=0.0"),
    "hep exact, λ = 1": ("fashion-mnist-homeostasis",),
    "asymep, N = 2": ("fashion-mnist", "gradient.method=asymep", "gradient.beta_radius=0.2"),
    "bptt": ("fashion-mnist", "gradient.method=bptt"),
}


def serve(preset: str, overrides: list[str], warm_up: int) -> None:
    """Work: warm up, then a round for every line that is read; on one core with one device."""
    if "run.devices=1" in overrides:  # else XLA would share its work among all cores
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # the first step is timed
    import jax
    import numpy as np

    from hepcli.config import load_config
    from hepcli.experiments.task import Task

    config = load_config(preset, overrides).config
    started = time.perf_counter()
    task = Task(config)
    step, state = task.train_step([config]), task.layout.replicate(task.fresh_state(config))
    size, feed = config.data.batch_size, task.feed("train")
    order = np.random.default_rng(0).permutation(task.num_examples)

    def run(first: int, steps: int) -> float:
        nonlocal state
        rows = np.take(order, np.arange(first * size, (first + steps) * size), mode="wrap")
        began = time.perf_counter()
        for batch in feed.batches(rows.reshape(steps, size)):
            state, _ = step(state, *batch)
        jax.block_until_ready(state)
        return time.perf_counter() - began

    run(0, 1)
    first_step = time.perf_counter() - started
    run(1, max(1, warm_up))
    print(json.dumps({"first_step": first_step, "devices": task.layout.num_devices}), flush=True)
    done = 1 + warm_up
    for _ in sys.stdin:
        seconds = run(done, STEPS)
        done += STEPS
        print(json.dumps({"images": STEPS * size / seconds}), flush=True)
    print(json.dumps(residuals(task, config, state.params)), flush=True)


def residuals(task, config, params) -> dict:
    """Residuals of the free phase on the first 1,000 training examples."""
    import jax
    import numpy as np

    from hepcli.engine import Problem, free_phase

    params = jax.tree.map(np.asarray, params)
    images, labels = (array[:1000] for array in (task.split("train").images, task.split("train").labels))
    targets = jax.nn.one_hot(labels, task.spec.num_classes)

    def free(params, images):
        problem = Problem(task.network, params, task.preprocess(images), targets, config.relaxation)
        return free_phase(problem).phase

    phase = jax.jit(free)(params, np.asarray(images))
    quantiles = np.quantile(np.asarray(phase.residual), (0.5, 0.9, 0.98))
    return {"residuals": quantiles.tolist(), "passes": float(np.mean(phase.passes))}


class Worker:
    """A process that takes rounds when asked."""

    def __init__(self, source: Path, preset: str, *overrides: str, warm_up: int = WARM_UP) -> None:
        command = [sys.executable, "-P", __file__, "--serve", preset, "--warm-up", str(warm_up), *overrides]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(source)},
        )  # fmt: skip
        self.start = self._read()

    def _read(self) -> dict:
        return json.loads(self._process.stdout.readline())

    def round(self) -> float:
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self._read()["images"]

    def end(self) -> dict:
        self._process.stdin.close()
        result = self._read()
        self._process.wait()
        return result


def compare(name: str, preset: str, *overrides: str, other: Path | None, rounds: int, warm_up: int) -> None:
    here = Path(__file__).parents[2]
    workers = {
        label: Worker(here, preset, *overrides, *own, warm_up=warm_up) for label, own in SETTINGS.items()
    }
    if other is not None:
        workers["other, plain"] = Worker(other, preset, *overrides, *PLAIN, warm_up=warm_up)
    rates = [{label: worker.round() for label, worker in workers.items()} for _ in range(rounds)]
    first = next(iter(workers))
    print(name)
    for label, worker in workers.items():
        own = sorted(one[label] for one in rates)
        gain = sorted(one[label] / one[first] for one in rates)
        end = worker.end()
        print(
            f"  {label:>19}: {statistics.median(own):7.0f} images/s ({own[0]:.0f} to {own[-1]:.0f}), "
            f"{statistics.median(gain):.2f} ({gain[0]:.2f} to {gain[-1]:.2f}) of plain; "
            f"{worker.start['devices']} devices, {end['passes']:.1f} passes, residuals at 50, 90, 98 %: "
            + ", ".join(f"{value:.0e}" for value in end["residuals"]),
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve")
    parser.add_argument("--other", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--warm-up", type=int, default=WARM_UP)
    parser.add_argument("--only")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.overrides, options.warm_up)
        return
    for name, (preset, *overrides) in METHODS.items():
        if options.only in (None, name):
            compare(
                name, preset, *overrides, other=options.other, rounds=options.rounds, warm_up=options.warm_up
            )


if __name__ == "__main__":
    main()
