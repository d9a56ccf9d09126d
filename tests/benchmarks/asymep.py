"""What the corrected nudged dynamics of `asymep` gain over those of `hep`, and where they stop converging.

Run: python tests/benchmarks/asymep.py    (two minutes on two CPU cores)

Random networks in float64, layered, fully connected among each other, or a loop: normal kernels of standard
deviation 0.8/√fan-in, independent in both directions; a batch of 8 random inputs; 400 free and nudged steps.
Printed are, for each, cosine and relative error to rbp by number of nudges and radius, and the largest
radius tried up to which every nudged phase on a circle of 8 settles (residual below 1e-6).
"""

import jax
import jax.numpy as jnp
import numpy as np

from hepcli.engine import Problem, compare, free_phase
from hepcli.networks import build_network
from hepcli.settings import ESTIMATORS, DenseLayer, GradientSettings, NetworkSettings, RelaxationSettings

LAYERED = "in-l1 l1-l2 l2-l1 l2-out out-l2"
ALL_TO_ALL = "in-l1 l1-l1 l1-l2 l1-out l2-l1 l2-l2 l2-out out-l1 out-l2 out-out"
LOOP = "in-l1 l1-l2 l2-out out-l1"
SIZES = {20: (10, 7, 3), 100: (60, 30, 10), 500: (300, 190, 10)}
CIRCLES = [(n, radius) for radius in (0.02, 0.1) for n in (2, 4, 6)]
RADII = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0)
BATCH, INPUTS, CLASSES, STEPS = 8, 20, 10, 400
METHODS = ("hep", "asymep")


def random_problem(connections: str, sizes: tuple[int, ...], gain: float, seed: int = 0) -> Problem:
    """A random network with kernels of standard deviation gain/√(fan-in) between layers."""
    rng = np.random.default_rng(seed)
    units = dict(zip(("l1", "l2", "out"), sizes, strict=True))
    layers = {name: DenseLayer(units=size) for name, size in units.items()}
    settings = NetworkSettings(
        activation="sigmoid", loss="cross_entropy", layers=layers, connections=tuple(connections.split())
    )
    network = build_network(settings, (INPUTS,), CLASSES)
    params = {}
    for connection in network.connections:
        pre, post = connection.pre, connection.post
        fan_in = INPUTS if pre == "in" else sum(units[p] for p, q in network.edges if q == post)
        scale = (1.0 if pre == "in" else gain) / np.sqrt(fan_in)
        size = INPUTS if pre == "in" else units[pre]
        params[f"{pre}-{post}"] = {"kernel": jnp.asarray(scale * rng.standard_normal((size, units[post])))}
        if connection.is_forward:
            params[f"{pre}-{post}"]["bias"] = jnp.full(units[post], 0.3)
    params["readout"] = {
        "kernel": jnp.asarray(rng.standard_normal((units["out"], CLASSES)) / np.sqrt(units["out"])),
        "bias": jnp.zeros(CLASSES),
    }
    return Problem(
        network,
        params,
        jnp.asarray(rng.standard_normal((BATCH, INPUTS))),
        jnp.eye(CLASSES)[rng.integers(0, CLASSES, BATCH)],
        RelaxationSettings("alternating", free_steps=STEPS, nudged_steps=STEPS),
        GradientSettings("rbp", adjoint_steps=STEPS),
    )


def signals(problem: Problem) -> dict:
    """Cosine and relative error to rbp, averaged over the examples, and the residuals on circles."""
    free = free_phase(problem)
    true = ESTIMATORS["rbp"].error_signal(free)[0]

    def against(method: str, settings: GradientSettings) -> tuple:
        own = free._replace(problem=problem._replace(gradient=settings))
        found = compare(ESTIMATORS[method].error_signal(own)[0], true)
        return found.cosine["total"].mean(), found.relative_error["total"].mean()

    found = {f"{m} {n} {r}": against(m, GradientSettings(m, n, r)) for m in METHODS for n, r in CIRCLES}
    found |= {m: against(m, problem.gradient) for m in ("hep_exact", "asymep_exact")}
    circle = jnp.asarray(np.exp(2j * np.pi * np.arange(5) / 8))
    residuals = {
        m: jnp.stack([ESTIMATORS[m].nudged_phases(free)(r * circle).residual for r in RADII]) for m in METHODS
    }
    return {"found": found, "residuals": residuals, "free": free.phase.residual}


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    for title, connections in (("layered", LAYERED), ("all to all", ALL_TO_ALL), ("loop", LOOP)):
        for units, sizes in SIZES.items():
            problem = random_problem(connections, sizes, gain=0.8)
            run = jax.jit(lambda p, problem=problem: signals(problem._replace(params=p)))
            out = jax.device_get(run(problem.params))
            print(f"{title}, {units} units: free residual at most {out['free'].max():.0e}")
            for name, (cosine, error) in out["found"].items():
                print(f"  {name:>16}: 1 - cosine {1 - cosine:.1e}, relative error {error:.1e}")
            for method, residuals in out["residuals"].items():
                settled = (residuals < 1e-6).all(axis=(1, 2))  # a NaN is not
                reach = RADII[int(np.argmin(settled)) - 1] if not settled.all() else RADII[-1]
                print(f"  {method:>16}: settles up to |beta| = {reach if settled[0] else 0}")


if __name__ == "__main__":
    main()
