"""Throughput of five seeds of the `fashion-mnist` preset in one program, beside five runs alone.

Run: python tests/benchmarks/together.py [UNITS …]    (a minute a size on two CPU cores; 256 is the preset's)

The same seeds learn from the same batches in the same process, as `hep sweep` would have them: together by
one joint step on one device, and alone one after the other by the step of a single run on as many devices as
help it. Rounds alternate, and the ratio of each round is taken within it; that of the processor time too,
which other work on the machine disturbs less. Compilation is left out and told apart; runs alone share it.
"""

import os
import statistics
import sys
import time

os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # before JAX is imported: compilation is timed

import jax
import jax.numpy as jnp
import numpy as np

from hepcli.config import load_config
from hepcli.experiments.task import Task
from hepcli.training import Layout

SEEDS, ROUNDS, STEPS = 5, 7, 20


def compare(units: int) -> None:
    overrides = ("data.name=fashion_mnist_mini", *(f"network.layers.{n}.units={units}" for n in ("l1", "l2")))
    configs = [load_config("fashion-mnist", overrides, {"run.seed": seed}).config for seed in range(SEEDS)]
    task, joined = Task(configs[0]), Task(configs[0], layout=Layout(jax.local_devices()[:1]))
    batch = configs[0].data.batch_size
    rng = np.random.default_rng(0)
    orders = np.stack([rng.permutation(task.num_examples)[: STEPS * batch] for _ in configs])
    chosen = orders.reshape(SEEDS, STEPS, batch)
    starts = [joined.layout.replicate(task.fresh_state(config)) for config in configs]
    joint, alone = joined.train_step(configs), [task.train_step([config]) for config in configs]

    def run_together(steps: int) -> tuple[float, float]:
        state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
        jax.block_until_ready(state)
        started = clocks()
        for examples in joined.feed("train").batches(np.moveaxis(chosen, 1, 0)[:steps]):
            state, _ = joint(state, *examples)
        jax.block_until_ready(state)
        assert np.all(state.totals["examples"] == steps * batch)
        return since(started)

    def run_alone(steps: int) -> tuple[float, float]:
        wall = processor = 0.0
        for seed, start in enumerate(starts):
            state = task.layout.replicate(jax.tree.map(jnp.copy, start))
            jax.block_until_ready(state)
            started = clocks()
            for examples in task.feed("train").batches(chosen[seed, :steps]):
                state, _ = alone[seed](state, *examples)
            jax.block_until_ready(state)
            own_wall, own_processor = since(started)
            wall, processor = wall + own_wall, processor + own_processor
        return wall, processor

    first = [run(1)[0] for run in (run_together, run_alone)]
    print(f"{units} hidden units a layer; together on 1 device, alone on {task.layout.num_devices}")
    print(f"first step, compilation included: together {first[0]:.2f} s, alone {first[1]:.2f} s")
    rounds = [(run_together(STEPS), run_alone(STEPS)) for _ in range(ROUNDS)]
    images = SEEDS * STEPS * batch
    for place, name in enumerate(("together", "alone")):
        rate = statistics.median(images / one[place][0] for one in rounds)
        print(f"{name:>8}: {rate:6.0f} images/s (median of {ROUNDS} rounds)")
    for clock, name in enumerate(("ratio", "ratio of processor time")):
        ratios = [alone_s[clock] / together_s[clock] for together_s, alone_s in rounds]
        print(f"{name}: {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def since(started: tuple[float, float]) -> tuple[float, float]:
    now = clocks()
    return now[0] - started[0], now[1] - started[1]


if __name__ == "__main__":
    for size in sys.argv[1:] or ("256", "32"):
        compare(int(size))
