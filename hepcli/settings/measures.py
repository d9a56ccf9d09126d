"""The measures of a network: what each is called, how it is shown, and where it is computed.

To add one: a function from `hepcli.training.Measured` to a value per example, and its line in `MEASURES`.
Records, --json, the terminal's tables, figures along a run and sweeps follow from it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from hepcli.settings.parts import Parts


@dataclass(frozen=True)
class Measure:
    """A measure of a network, the mean of a value per example.

    Attributes:
        key: in records and --json.
        title: in tables and figures, with its unit.
        short: at the head of a narrow column.
        place: `module:function` that computes it, or the function.
        pattern: format of a number.
        of_all: whether examples without a fixed point count too.
    """

    key: str
    title: str
    short: str
    place: str | Callable[[Any], Any]
    pattern: str = ".4g"
    of_all: bool = False

    @property
    def function(self) -> Callable[[Any], Any]:
        """From `hepcli.training.Measured` to a value per example (batch,), real."""
        if not isinstance(self.place, str):
            return self.place
        module, _, name = self.place.partition(":")
        function: Callable[[Any], Any] = getattr(import_module(module), name)
        return function


RESERVED = frozenset(
    {
        "step", "epoch", "config_hash", "dataset", "split", "examples", "method", "relaxation", "gradient",
        "hardware", "test_top1", "weight_angle_deg", "weight_angle_deg_by_pair", "converged", "unsettled",
        "unsettled_signal_share", "cosine", "relative_error", "gradient_cosine", "standard_error",
        "examples_used", "left_out", "largest_residual", "jacobian", "notes", "checkpoint", "steps",
        "figures",
    }
)  # fmt: skip
"""Keys that records use for other things, which no measure may take."""

_HOME = "hepcli.training._measures"

_BUILT_IN = (
    Measure("jacobian_symmetry", "Jacobian symmetry S", "S", f"{_HOME}:symmetry"),
    Measure("homeostatic_loss", "homeostatic loss", "homeo.", f"{_HOME}:homeostatic"),
    Measure("spectral_radius", "spectral radius of one step", "radius", f"{_HOME}:radius"),
    Measure("log10_residual", "log10 residual", "resid.", f"{_HOME}:residual", of_all=True),
)
MEASURES = Parts("measure", built_in={measure.key: measure for measure in _BUILT_IN})
"""Measures by key, in the order they are shown."""
