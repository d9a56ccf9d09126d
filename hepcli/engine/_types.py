"""Types shared by the engine: states, parameters, and what a network must provide."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import jax
from jax import Array
from jaxtyping import Bool, Float, Int

from hepcli.settings import GradientSettings, RelaxationSettings

State = dict[str, Array]
"""One array per layer, pre-activations or activities, (..., batch, *units), real or complex."""

Params = Mapping[str, Mapping[str, Array]]
"""Real parameters: connection or ``readout`` -> ``kernel`` and, where there is one, ``bias``."""

Gradient = dict[str, dict[str, Array]]
"""Real arrays with the structure of `Params`."""


class System(Protocol):
    """A network as the engine sees it: a directed graph of layers with a holomorphic vector field.

    Every method is pure, takes real parameters, and accepts states with any number of leading axes.
    """

    @property
    def layers(self) -> tuple[str, ...]:
        """Layer names in the network's own order; one of them is ``out``."""

    @property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """Connections between layers as (pre, post); those from the input are left out."""

    @property
    def linear_drive(self) -> bool:
        """Whether `recurrent_drive` is linear in the activity, so that its derivative is itself."""

    def zero_state(self, inputs: Array) -> State:
        """The all-zero pre-activations for a batch of inputs."""

    def input_drive(self, params: Params, inputs: Array) -> State:
        """What does not change while the network relaxes: input connections and biases, per layer."""

    def recurrent_drive(self, params: Params, layer: str, activity: State) -> Array:
        """Sum over the connections into `layer` from layers, at least one, without biases.

        `activity` holds every layer: feedback through a pooling depends on what it drives, too.
        """

    def activation(self, layer: str, state: Array) -> Array:
        """Activation of a layer, elementwise; holomorphic where states are complex."""

    def output(self, params: Params, out_activity: Array) -> Array:
        """Class scores (or, without readout, the flattened activity of ``out``)."""

    def loss(self, params: Params, out_activity: Array, targets: Array) -> Array:
        """Loss per example, real."""

    def loss_gradient(self, params: Params, out_activity: Array, targets: Array) -> Array:
        """dL/dr_out per example, continued holomorphically to complex activities."""


class Problem(NamedTuple):
    """One batch to learn from: network, parameters, real inputs, real targets (one-hot for classes).

    `gradient` is needed where a learning signal is estimated. `key` is what the noise of its phases, the
    sign of its nudge and the random numbers of its estimator are drawn from, needed where
    `draws_random_numbers` says so; `places` says where its examples are in the batch that the key is for,
    None for all of it in order. The free phase starts from the pre-activations `start`, from zero where there
    are none.
    """

    system: System
    params: Params
    inputs: Float[Array, "batch ..."]
    targets: Float[Array, "batch classes"]
    relaxation: RelaxationSettings
    gradient: GradientSettings | None = None
    key: Array | None = None
    start: State | None = None
    places: Int[Array, " batch"] | None = None

    @property
    def signal_settings(self) -> GradientSettings:
        """Its [gradient] table.

        Raises:
            ValueError: the problem was made without one.
        """
        if self.gradient is None:
            raise ValueError("the problem has no gradient settings: it is for free phases only")
        return self.gradient


class Phase(NamedTuple):
    """The end of a relaxation.

    Attributes:
        state: pre-activations (..., batch, *units).
        residual: ‖F(state)‖ per example, Euclidean over all layers.
        settled: residual at most `converged_residual` or, after a free phase in lower precision, at most its
            rounding error.
        finite: no layer holds a NaN or an infinity.
        passes: passes run.
    """

    state: State
    residual: Float[Array, "*points batch"]
    settled: Bool[Array, "*points batch"]
    finite: Bool[Array, "*points batch"]
    passes: Int[Array, "*points batch"]


class PhaseReport(NamedTuple):
    """What is kept of a phase for the record, per example (worst over the points of the circle)."""

    residual: Float[Array, " batch"]
    settled: Bool[Array, " batch"]
    finite: Bool[Array, " batch"]
    passes: Int[Array, " batch"]


class SignalSums(NamedTuple):
    """Error signals summed over examples, per layer (*units), real.

    Attributes:
        unsettled: over the examples whose free phase has not settled.
        total: over all; examples whose signal is not finite are left out of both.
    """

    unsettled: State
    total: State


class Estimate(NamedTuple):
    """A learning signal.

    Attributes:
        state: pre-activations at which the local learning rule was applied; for rules that learn from others
            that of the free phase.
        error_vector: e per layer in activity coordinates, real; None for `bptt`, which has none.
        gradient_sum: real, summed over the examples that are learned from.
        num_learned: how many those are.
        free: the free phase; for `online_hep` the mean state of the run, for `dyadic_ep` the midpoint.
        nudged: the nudged phases or the adjoint iteration; None where there is none to report.
        signal: what each example teaches, whether it is learned from or not, real (batch, *units): the
            error vector, or for `bptt` the gradient of the loss with respect to a constant input to each
            unit, which plays its part; None for `bptt` where examples are skipped.
    """

    state: State
    error_vector: State | None
    gradient_sum: Gradient
    num_learned: Float[Array, ""]
    free: PhaseReport
    nudged: PhaseReport | None
    signal: State | None

    @property
    def gradient(self) -> Gradient:
        """Mean over the examples that are learned from; zero where there are none."""
        return mean_gradient(self.gradient_sum, self.num_learned)


def mean_gradient(total: Gradient, count: Float[Array, ""]) -> Gradient:
    """The mean of a sum over examples; zero where there are none."""
    divisor = count + (count == 0).astype(count.dtype)  # in NumPy where the arrays are NumPy's
    mean: Gradient = jax.tree.map(lambda g: g / divisor, total)
    return mean
