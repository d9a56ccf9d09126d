"""How small a nudge may be in float32: `python tests/benchmarks/nudges.py RUN`.

What `hep` says of training images against `hep_exact`, over N and |β|, all from the same free phases: finite
nudges at the upper end, rounding at the lower. First the relative distance of the parameter gradient, then
the median relative error of the error signal, of the twentieth of the images with the largest signals and of
the rest.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

import hepcli

RADII = (0.5, 0.1, 0.05, 0.01, 1e-3, 1e-4, 1e-5, 1e-6)
POINTS = (1, 2, 4)
LARGEST = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    run = hepcli.load_run(arguments.run)
    images, labels = (array[: arguments.images] for array in run.split("train")[:2])

    def estimated(method: str, *changed: str) -> tuple[np.ndarray, np.ndarray]:
        """Gradient, and signals (images, units)."""
        found = hepcli.estimate(run, images, labels, method, [*arguments.set, *changed])
        signals = [np.reshape(e, (len(images), -1)) for e in found.error_vector.values()]
        gradient = [np.ravel(leaf) for leaf in jax.tree.leaves(found.gradient)]
        return np.concatenate(gradient), np.concatenate(signals, axis=1)

    exact, signals = estimated("hep_exact")
    sizes = np.linalg.norm(signals, axis=1)
    large = sizes >= np.quantile(sizes, 1 - LARGEST)
    tables = {"gradient": [], "largest signals; the rest": []}
    for radius in RADII:
        row = [
            estimated("hep", f"gradient.num_points={points}", f"gradient.beta_radius={radius}")
            for points in POINTS
        ]
        distances = [np.linalg.norm(own - exact) / np.linalg.norm(exact) for own, _ in row]
        errors = [np.linalg.norm(own - signals, axis=1) / sizes for _, own in row]
        tables["gradient"].append([f"{distance:.2g}" for distance in distances])
        both = [f"{np.median(error[large]):.2g}; {np.median(error[~large]):.2g}" for error in errors]
        tables["largest signals; the rest"].append(both)
    for title, rows in tables.items():
        print(f"\n| {title}, \\|β\\| | " + " | ".join(f"N = {points}" for points in POINTS) + " |")
        print("|---" * (len(POINTS) + 1) + "|")
        for radius, cells in zip(RADII, rows, strict=True):
            print(f"| {radius:g} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
