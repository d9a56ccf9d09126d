"""Throughput and memory of the convolutional network of the `cifar10` preset at its full width.

Run: python tests/benchmarks/conv.py                on CPUs: batch 8, 25 free and 5 nudged steps, N = 2
     python tests/benchmarks/conv.py --full         on GPUs: batch 256, 250 and 40 steps, each free precision

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
from hepcli.engine._sweep import num_sweeps
from hepcli.experiments.build_network import build_network

from hepcli.config import Config, load_config
from hepcli.engine import update_groups
from hepcli.experiments import build
from hepcli.networks import ConvNetwork
from hepcli.training import Feed, Layout, init_state, make_train_step

ROUNDS = 5
IMAGENET_EXAMPLES = 1_281_167
IN_SMALL = ("data.batch_size=8", "relaxation.free_steps=25", "relaxation.nudged_steps=5",
            "relaxation.free_precision=float32", "gradient.method=hep", "homeostasis.weight=0.0")  # fmt: skip


class Bench:
    """A compiled training step on random images."""

    def __init__(self, config: Config) -> None:
        self.config, shape = config, build.DataShape((32, 32, 3), 10)
        self.network = build_network(config, shape)
        batch, rng = config.data.batch_size, np.random.default_rng(0)
        images = rng.integers(0, 256, (batch, *shape.image), np.uint8)
        feed = Feed(images, rng.integers(0, 10, batch).astype(np.int32), Layout())
        optimizer = build.build_optimizer_of(config, 1000)
        self.state = init_state(build.init_params(config, self.network), optimizer)
        self.batch = next(feed.batches([np.arange(batch)]))
        step = make_train_step(
            self.network,
            10,
            build.learning_settings(config, self.network),
            optimizer,
            build.build_preprocess(config, shape),
        )
        started = time.perf_counter()
        self.step = step.lower(self.state, *self.batch).compile()
        self.compile_s = time.perf_counter() - started

    @property
    def temporary_bytes(self) -> int:
        return self.step.memory_analysis().temp_size_in_bytes

    def seconds(self, steps: int) -> float:
        jax.block_until_ready(self.state)
        started = time.perf_counter()
        for _ in range(steps):
            self.state, _ = self.step(self.state, *self.batch)
        jax.block_until_ready(self.state)
        return (time.perf_counter() - started) / steps

    def sweep_flops(self) -> float:
        """Of one update of every layer for one image: feedback convolves twice."""
        network: ConvNetwork = self.network
        shapes, specs = network.unit_shapes, dict(network.specs)
        total = 0
        for pre, post in network.edges:
            lower, upper = sorted((pre, post), key=list(shapes).index)
            height, width, channels = specs[upper].convolved(shapes[lower])
            once = 2 * height * width * channels * specs[upper].kernel_size ** 2 * shapes[lower][2]
            total += once if pre == lower else 2 * once
        return total

    def flops(self) -> float:
        """Of the free and nudged sweeps of a batch; gradient and homeostasis are left out."""
        relaxation, gradient = self.config.relaxation, self.config.gradient
        points = gradient.num_points if gradient.method == "hep" else 1
        groups = len(update_groups(self.network, relaxation.solver))
        sweeps = num_sweeps(groups, relaxation.free_steps) + points * num_sweeps(
            groups, relaxation.nudged_steps
        )
        return self.config.data.batch_size * sweeps * self.sweep_flops()


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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true")
    print(f"{jax.devices()[0].device_kind}, JAX {jax.__version__}")
    if parser.parse_args().full:
        for precision in ("float32", "bfloat16", "float16"):
            measure((f"relaxation.free_precision={precision}",))
        return
    for solver in ("synchronous", "alternating"):
        measure((*IN_SMALL, f"relaxation.solver={solver}"))
    for steps in (25, 250):
        long = (*IN_SMALL, f"relaxation.free_steps={steps}", f"relaxation.nudged_steps={steps}")
        temporaries = Bench(load_config("cifar10", long).config).temporary_bytes
        print(f"temporaries of a step with {steps} free and {steps} nudged: {temporaries / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
