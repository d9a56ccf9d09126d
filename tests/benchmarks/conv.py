"""Throughput and memory of the convolutional network of the `cifar10` preset at its full width.

Run: python tests/benchmarks/conv.py                on CPUs: batch 8, 25 free and 5 nudged steps, N = 2
     python tests/benchmarks/conv.py --full         on GPUs: batch 256, 250 and 40 steps, each free precision
     python tests/benchmarks/conv.py --active       on CPUs: 250 and 40 steps, plain, to a tolerance, mixing

Rounds of training steps, and beside each round the rate of a plain matrix product, so that the share of it
that the steps reach does not depend on what else the machine does. The memory is the compiler's own account
of the step's temporaries, at two numbers of steps: it must not grow with them.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from hepcli.config import Config, load_config
from hepcli.engine import Dynamics, Phase, Problem, free_phase, make_solver, network_update
from hepcli.experiments.task import Task
from hepcli.training import Feed

ROUNDS = 5
SCALES = 1.0, 1.2, 1.5
IMAGENET_EXAMPLES = 1_281_167
IN_SMALL = ("data.batch_size=8", "relaxation.free_steps=25", "relaxation.nudged_steps=5",
            "relaxation.free_precision=float32", "gradient.method=hep", "homeostasis.weight=0.0")  # fmt: skip


class Bench:
    """A compiled training step on random images."""

    def __init__(self, config: Config) -> None:
        self.config, task = config, Task(config)
        self.network = task.network
        batch, rng = config.data.batch_size, np.random.default_rng(0)
        images = rng.integers(0, 256, (batch, *task.spec.image_shape), np.uint8)
        feed = Feed(images, rng.integers(0, 10, batch).astype(np.int32), task.layout)
        self.state = task.fresh_state(config)
        self.batch = next(feed.batches([np.arange(batch)]))
        self.step = task.train_step([config])
        self.compile_s = self.seconds(1)

    @property
    def temporary_bytes(self) -> int:
        """Of the step as one program, on one device."""
        program, numbers = self.step.func, self.step.args
        return program.lower(*numbers, self.state, *self.batch).compile().memory_analysis().temp_size_in_bytes

    def seconds(self, steps: int) -> float:
        jax.block_until_ready(self.state)
        started = time.perf_counter()
        for _ in range(steps):
            self.state, _ = self.step(self.state, *self.batch)
        jax.block_until_ready(self.state)
        return (time.perf_counter() - started) / steps

    def free_phase(self) -> tuple[np.ndarray, float]:
        """Residuals at the end of the free phases of the batch, and their mean passes."""
        images = jnp.concatenate([jnp.asarray(part) for part in jax.tree.leaves(self.batch.images)])
        task, params = Task(self.config), jax.tree.map(np.asarray, self.state.params)
        targets = jnp.zeros((len(images), task.spec.num_classes))

        def run(params: dict, images: jax.Array) -> Phase:
            inputs = task.preprocess(images)
            return free_phase(Problem(task.network, params, inputs, targets, self.config.relaxation)).phase

        phase = jax.jit(run)(params, images)
        return np.asarray(phase.residual), float(phase.passes.mean())

    def pass_flops(self) -> float:
        """Of one update of every layer for one image: feedback convolves twice."""
        total = 0
        for connection in (own for own in self.network.connections if own.pre != "in"):
            layer, below = connection.layer, connection.below
            height, width, channels = layer.convolved(below)
            once = 2 * height * width * channels * layer.kernel_size**2 * below[2]
            total += once if connection.is_forward else 2 * once
        return total

    def flops(self) -> float:
        """Of the free and nudged passes of a batch; gradient and homeostasis are left out."""
        relaxation, gradient = self.config.relaxation, self.config.gradient
        points = gradient.num_points if gradient.method == "hep" else 1
        solver = make_solver(relaxation)
        dynamics = Dynamics(self.network.layers, self.network.edges, network_update(self.network, {}, {}))
        free = solver.num_passes(dynamics, relaxation.free_steps)
        nudged = solver.num_passes(dynamics, relaxation.nudged_steps)
        return self.config.data.batch_size * (free + points * nudged) * self.pass_flops()


def matrix_rate(dtype: jnp.dtype) -> float:
    """Floating-point operations a second of a large matrix product."""
    size = 8192 if jax.default_backend() == "gpu" else 1536
    left = jnp.ones((size, size), dtype)
    product = jax.jit(lambda a: a @ a)
    jax.block_until_ready(product(left))
    started = time.perf_counter()
    jax.block_until_ready([product(left) for _ in range(3)])
    return 3 * 2 * size**3 / (time.perf_counter() - started)


def measure(overrides: tuple[str, ...]) -> None:
    config = load_config("cifar10", overrides).config
    bench, batch = Bench(config), config.data.batch_size
    bench.seconds(1)
    rounds = [(bench.seconds(1), matrix_rate(config.relaxation.free_precision)) for _ in range(ROUNDS)]
    rate = statistics.median(batch / seconds for seconds, _ in rounds)
    share = statistics.median(bench.flops() / seconds / matrix for seconds, matrix in rounds)
    relaxation, gflop = config.relaxation, bench.flops() / batch / 1e9
    print(f"{relaxation.solver}, free phase in {relaxation.free_precision}, batch {batch}")
    print(f"  compiled in {bench.compile_s:.1f} s")
    print(f"  {rate:.2f} images/s (median of {ROUNDS} rounds)")
    print(f"  {gflop:.1f} GFLOP an image, at {share:.2f} of the rate of a matrix product")
    print(f"  projected epoch of imagenet32: {IMAGENET_EXAMPLES / rate / 3600:.2f} h")


def active() -> None:
    """Whole phases, and examples that stop when they rest, at fresh weights and at stronger ones."""
    steps = ("relaxation.free_steps=250", "relaxation.nudged_steps=40", "relaxation.solver=alternating")
    long = (*(own for own in IN_SMALL if "steps" not in own), *steps)
    resting = ("relaxation.tolerance=1e-4", "relaxation.nudged_tolerance=0.0")
    mixing = ("relaxation.solver=anderson", "relaxation.nudged_solver=alternating")
    more = {"plain": (), "tolerance": resting, "mixing": (*resting, *mixing)}
    benches = {name: Bench(load_config("cifar10", (*long, *own)).config) for name, own in more.items()}
    for scale in SCALES:
        for bench in benches.values():
            grown = jax.tree.map(lambda w: w * scale, Task(bench.config).fresh_params())  # noqa: B023
            bench.state = bench.state._replace(params=grown)
            bench.seconds(1)
        rounds = [{name: bench.seconds(1) for name, bench in benches.items()} for _ in range(7)]
        print(f"kernels times {scale}")
        for name, bench in benches.items():
            gains = sorted(one["plain"] / one[name] for one in rounds)
            spread = f"{statistics.median(gains):.2f} ({gains[0]:.2f} to {gains[-1]:.2f}) of plain"
            rate = statistics.median(bench.config.data.batch_size / one[name] for one in rounds)
            residual, passes = bench.free_phase()
            quantiles = ", ".join(f"{q:.0e}" for q in np.quantile(residual, (0.5, 0.9, 0.98)))
            print(
                f"  {name}: {rate:.2f} images/s, {spread}, {passes:.1f} passes, "
                f"residuals at 50, 90, 98 %: {quantiles}"
            )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--active", action="store_true")
    print(f"{jax.devices()[0].device_kind}, JAX {jax.__version__}")
    options = parser.parse_args()
    if options.active:
        active()
        return
    if options.full:
        for precision in ("float32", "bfloat16", "float16"):
            measure((f"relaxation.free_precision={precision}",))
        return
    for solver in ("synchronous", "alternating"):
        measure((*IN_SMALL, f"relaxation.solver={solver}"))
    for steps in (25, 250):
        phases = f"relaxation.free_steps={steps}", f"relaxation.nudged_steps={steps}"
        long = (*IN_SMALL, *phases, "run.devices=1")
        temporaries = Bench(load_config("cifar10", long).config).temporary_bytes
        print(f"temporaries of a step with {steps} free and {steps} nudged: {temporaries / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
