"""Throughput of five seeds of the `fashion-mnist` preset in one program, beside five runs alone.

Run: python tests/benchmarks/together.py             (a few minutes on two CPU cores)

The same seeds learn from the same numbers of batches in the same process: together by one joint step, and
alone one after the other by the step of a single run. Rounds alternate, and the ratio of each round is taken
within it. Compilation is left out and told apart: once together, once for each run alone.
"""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from hepcli.config import load_config
from hepcli.experiments import build
from hepcli.experiments.run import Bench
from hepcli.training import init_state

SEEDS, ROUNDS, STEPS = 5, 7, 20


def main() -> None:
    overrides = ("data.name=fashion_mnist_mini",)
    configs = [load_config("fashion-mnist", overrides, {"run.seed": seed}).config for seed in range(SEEDS)]
    bench = Bench(configs[0], None)
    batch = configs[0].data.batch_size
    rng = np.random.default_rng(0)
    orders = np.stack([rng.permutation(bench.num_examples)[: STEPS * batch] for _ in configs])
    indices = jnp.asarray(orders.reshape(SEEDS, STEPS, batch).astype(np.int32))
    starts = [init_state(build.init_params(c, bench.network), bench.optimizer(c)) for c in configs]
    joint, alone = bench.joint_step(configs), bench.train_step(configs[0])

    def run_together(steps: int) -> float:
        state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
        jax.block_until_ready(state)
        started = time.perf_counter()
        for step in range(steps):
            state, _ = joint(state, *bench.train_data, indices[:, step])
        jax.block_until_ready(state)
        return time.perf_counter() - started

    def run_alone(steps: int) -> float:
        seconds = 0.0
        for seed, start in enumerate(starts):
            state = jax.tree.map(jnp.copy, start)
            jax.block_until_ready(state)
            started = time.perf_counter()
            for step in range(steps):
                state, _ = alone(state, *bench.train_data, indices[seed, step])
            jax.block_until_ready(state)
            seconds += time.perf_counter() - started
        return seconds

    print(f"first step, compilation included: together {run_together(1):.2f} s, alone {run_alone(1):.2f} s")
    images = SEEDS * STEPS * batch
    pairs = [(images / run_together(STEPS), images / run_alone(STEPS)) for _ in range(ROUNDS)]
    for name, rates in zip(("together", "alone"), zip(*pairs, strict=True), strict=True):
        print(f"{name:>8}: {statistics.median(rates):6.0f} images/s (median of {ROUNDS} rounds)")
    ratios = [together / one for together, one in pairs]
    print(f"ratio: {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
