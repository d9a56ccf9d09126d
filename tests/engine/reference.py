"""Reference networks: numbers computed with the method's published code."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from hepcli.engine import Problem
from hepcli.settings import GradientSettings, RelaxationSettings
from tests.dense import dense_network

FOLDER = Path(__file__).parent.parent / "reference"


class Reference:
    """A reference network, its batch and its arrays."""

    def __init__(self, name: str) -> None:
        self.meta = json.loads((FOLDER / f"{name}.json").read_text())
        with np.load(FOLDER / f"{name}.npz") as arrays:
            self.arrays = dict(arrays)
        self.network = dense_network(
            units=tuple((layer, self.meta["sizes"][layer]) for layer in ("l1", "l2", "out")),
            connections=tuple(tuple(c.split("-")) for c in self.meta["connections"]),
            input_size=self.meta["input_size"],
            num_classes=self.meta["classes"],
            activation_name=self.meta["activation"],
        )

    def params(self, prefix: str = "params"):
        """Parameters (or a gradient) stored under a prefix, with our names."""
        tree = {}
        for name, array in self.under(prefix).items():
            connection, *_, leaf = name.split("/")
            tree.setdefault(connection, {})[leaf] = jnp.asarray(array)
        return tree

    def under(self, prefix: str):
        """Arrays whose name begins with the prefix, by the rest of their name."""
        return {k[len(prefix) + 1 :]: v for k, v in self.arrays.items() if k.startswith(prefix + "/")}

    def problem(
        self, method="hep", num_points=2, beta_radius=0.05, solver="synchronous", **gradient
    ) -> Problem:
        return Problem(
            self.network,
            self.params(),
            jnp.asarray(self.arrays["x"]),
            jnp.asarray(self.arrays["y"]),
            RelaxationSettings(
                solver,
                free_steps=self.meta["free_steps"],
                nudged_steps=self.meta.get("nudge_steps", self.meta.get("nudged_steps")),
            ),
            GradientSettings(method, num_points, beta_radius, **gradient),
        )


def relative_error(ours, theirs) -> float:
    """Largest ‖a − b‖/‖b‖ over the leaves that both trees name; the names must agree."""
    assert sorted(ours) == sorted(theirs)
    worst = 0.0
    for name, expected in theirs.items():
        found = ours[name]
        if isinstance(expected, dict):
            worst = max(worst, relative_error(found, expected))
        else:
            scale = np.linalg.norm(expected)
            worst = max(worst, float(np.linalg.norm(np.asarray(found) - expected) / (scale or 1.0)))
    return worst
