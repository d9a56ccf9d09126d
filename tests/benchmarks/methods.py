"""What a training step costs by each method, on the network of the `fashion-mnist-homeostasis` preset.

Run: python tests/benchmarks/methods.py    (two minutes on two CPU cores)

Every method takes steps in turn, round after round in one process; the ratio to hep exact without
homeostasis is taken within each round. 150 free and 20 nudged steps, batch 50; compilation is left out.
"""

import statistics
import time

import jax
import numpy as np

from hepcli.config import load_config
from hepcli.experiments.task import Task

ROUNDS, STEPS = 7, 20
TIED = ("network.tied=true", "network.initial_angle_deg=0.0")
HEP_EXACT = ("gradient.method=hep_exact", "homeostasis.weight=0.0")


def circle(method: str, points: int) -> tuple[str, ...]:
    return f"gradient.method={method}", f"gradient.num_points={points}", "homeostasis.weight=0.0"


METHODS = {
    "hep exact": HEP_EXACT,
    "hep exact, homeostasis": ("gradient.method=hep_exact",),
    "hep, N = 2": circle("hep", 2),
    "hep, N = 4": circle("hep", 4),
    "asymep, N = 2": circle("asymep", 2),
    "asymep, N = 4": circle("asymep", 4),
    "asymep exact": circle("asymep_exact", 2),
    "dyadic ep": circle("dyadic_ep", 2),
    "rbp": circle("rbp", 2),
    "bptt": circle("bptt", 2),
    "hep exact, noise": (*HEP_EXACT, "relaxation.noise_std=0.04"),
    "hep exact, tied": (*HEP_EXACT, *TIED),
    "hep, N = 2, tied": (*circle("hep", 2), *TIED),
    "hep, N = 2, homeostasis": ("gradient.method=hep", "gradient.num_points=2"),
    "feedforward": circle("feedforward", 2),
}


class Runner:
    """Compiled steps of one method."""

    def __init__(self, overrides: tuple[str, ...]) -> None:
        config = load_config("fashion-mnist-homeostasis", ("data.name=fashion_mnist_mini", *overrides)).config
        task = Task(config)
        self.step, self.state = task.train_step([config]), task.layout.replicate(task.fresh_state(config))
        order = np.random.default_rng(0).permutation(task.num_examples)
        self.batches = list(task.feed("train").batches(order[: STEPS * 50].reshape(STEPS, 50)))
        self.images_per_second()

    def images_per_second(self) -> float:
        started = time.perf_counter()
        for batch in self.batches:
            self.state, _ = self.step(self.state, *batch)
        jax.block_until_ready(self.state)
        return STEPS * 50 / (time.perf_counter() - started)


def main() -> None:
    runners = {name: Runner(overrides) for name, overrides in METHODS.items()}
    rounds = [{name: own.images_per_second() for name, own in runners.items()} for _ in range(ROUNDS)]
    for name in METHODS:
        rate = statistics.median(one[name] for one in rounds)
        cost = statistics.median(one["hep exact"] / one[name] for one in rounds)
        print(f"{name:>23}: {rate:5.0f} images/s, {cost:.2f} times the cost of hep exact")


if __name__ == "__main__":
    main()
