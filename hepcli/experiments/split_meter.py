"""The measures of a network on the first examples of a split, in float64."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from hepcli.data import OnProgress, Split, silent
from hepcli.engine import Params
from hepcli.errors import ConfigError
from hepcli.settings import MEASURES
from hepcli.training import AsymmetryMeter, MeterSettings, Pictures, Sample, batch_size_for, summarise

_PICTURE_UNITS = 2**13  # state units of all examples in the figures: 8 of the presets' dense networks


class SplitMeter:
    """Measures how far a network's learning signal is from the gradient, and why.

    All but a free phase in lower precision is computed in float64, so that the references are converged far
    below the biases.

    Args:
        meter: of the network.
        split: of the data set, where the examples are from.
        name: of the data set.
        chosen: the examples of the split that are meant (n,); None for all.
        examples: how many, the first of those.
        key: what the number of examples is called in errors, such as `--examples`.

    Raises:
        ConfigError: there are not as many examples.
    """

    def __init__(
        self,
        meter: AsymmetryMeter,
        split: Split,
        name: str,
        chosen: NDArray[np.int64] | None,
        examples: int,
        key: str,
    ) -> None:
        self._chosen = np.arange(len(split.labels)) if chosen is None else chosen
        available = len(self._chosen)
        if not 1 <= examples <= available:
            raise ConfigError(
                f"{key} {examples}: the split of {name} has {available} examples.",
                f"Choose 1 to {available}.",
            )
        self._meter, self._split, self._examples, self._name = meter, split, examples, name
        self._units = self._meter.num_units(split.images.shape[1:])

    @property
    def settings(self) -> MeterSettings:
        """What is measured, and against what."""
        return self._meter.settings

    @property
    def coverage_note(self) -> str | None:
        """What the user should know where the examples are of too few classes to stand for the split."""
        labels, name = self._split.labels[self._chosen], self._name
        seen, there = len(np.unique(labels[: self._examples])), len(np.unique(labels))
        if 2 * seen >= min(self._examples, there):
            return None
        return (
            f"The first {self._examples} examples of this split of {name} contain only {seen} of its {there} "
            "classes, so measures of them are not representative. Measure more, or import the data set "
            "again with its examples shuffled."
        )

    @property
    def is_dense(self) -> bool:
        """Whether the Jacobian is built, not estimated."""
        return self._units <= self.settings.dense_units

    def measures(self, params: Params, report: OnProgress = silent) -> dict[str, Any]:
        """Measure in batches of one size, the last one filled up.

        Args:
            params: real parameters, in any precision.
            report: receives a line before every batch.

        Returns:
            What `summarise` makes of them.
        """
        size = min(batch_size_for(self._units), self._examples)
        samples: list[Sample] = []
        counts: list[NDArray[np.bool_]] = []
        with jax.enable_x64(True):
            exact = _in_float64(params)
            for start in range(0, self._examples, size):
                report(f"measuring: {start} of {self._examples} examples done")
                rows = np.arange(start, start + size)
                counts.append(rows < self._examples)
                batch = self._rows(np.minimum(rows, self._examples - 1))
                own = jnp.asarray(counts[-1]), jnp.asarray(rows)
                samples.append(jax.device_get(self._meter.batch(exact, *batch, *own)))
            return summarise(samples, counts)

    def pictures(
        self,
        params: Params,
        examples: int,
        betas: NDArray[np.complex128],
        radii: list[float],
        numbers: tuple[int, ...],
    ) -> Pictures:
        """What the figures show, for at most that many examples; see `AsymmetryMeter.pictures`.

        Fewer of a large network: every example relaxes under hundreds of nudges.
        """
        count = max(1, min(examples, self._examples, _PICTURE_UNITS // self._units))
        with jax.enable_x64(True):
            result: Pictures = jax.device_get(
                self._meter.pictures(
                    _in_float64(params),
                    *self._rows(np.arange(count)),
                    jnp.asarray(betas),
                    jnp.asarray(radii),
                    numbers,
                )
            )
        return result

    def _rows(self, rows: NDArray[np.int64]) -> tuple[Array, Array]:
        places = self._chosen[rows]
        return jnp.asarray(self._split.images[places]), jnp.asarray(self._split.labels[places])


def in_short(measures: dict[str, Any], examples: int) -> dict[str, Any]:
    """The measures as a line of metrics.jsonl holds them: over all layers together.

    Args:
        measures: from `SplitMeter.measures`.
        examples: of how many examples.

    Returns:
        Numbers, or None where undefined.
    """
    return {
        "examples": examples,
        "examples_used": measures["examples_used"],
        "unsettled": measures["unsettled"],
        "unsettled_signal_share": measures["unsettled_signal_share"],
        **{key: measures[key] for key in MEASURES},
        "cosine": {bias: table["total"] for bias, table in measures["cosine"].items()},
        "relative_error": {bias: table["total"] for bias, table in measures["relative_error"].items()},
        "gradient_cosine": measures["gradient_cosine"]["total"],
    }


def _in_float64(params: Params) -> Params:
    exact: Params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
    return exact
