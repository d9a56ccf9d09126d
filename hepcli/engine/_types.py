"""Types shared by the engine: states, parameters, and what a network must provide."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from jax import Array
from jaxtyping import Bool, Float, Int

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

    def activation(self, state: Array) -> Array:
        """Holomorphic activation, elementwise."""

    def output(self, params: Params, out_activity: Array) -> Array:
        """Class scores (or, without readout, the flattened activity of ``out``)."""

    def loss(self, params: Params, out_activity: Array, targets: Array) -> Array:
        """Loss per example, real."""

    def loss_gradient(self, params: Params, out_activity: Array, targets: Array) -> Array:
        """dL/dr_out per example, continued holomorphically to complex activities."""


class RelaxationSettings(NamedTuple):
    """How phases are run.

    Attributes:
        solver: key of `SOLVERS`.
        free_steps: steps of the free phase.
        nudged_steps: steps of a nudged phase.
        tolerance: a phase ends once every example moves less than this in a sweep (Euclidean norm over
            all layers); 0 runs all steps.
        converged_residual: an example counts as converged when ‖F(u)‖ is at most this.
        unsettled: whether examples whose free phase has not converged are learned from: `learn` as the
            paper does, `skip` leaves them out of the gradient, which is then the mean over the rest.
        free_precision: `bfloat16` or `float16` run the free phase with weights and states cast to that;
            `float32` leaves it in the precision of the parameters, as nudged phases always are.
        noise_std: standard deviation of the Gaussian noise that every update of a layer's state receives,
            in free and nudged phases; for complex states, the root of its mean squared magnitude. The
            linear solves of `hep_exact`, `asymep_exact`, `rbp` and `neumann_rbp` receive none.
    """

    solver: str = "synchronous"
    free_steps: int = 150
    nudged_steps: int = 20
    tolerance: float = 0.0
    converged_residual: float = 1e-3
    unsettled: str = "learn"
    free_precision: str = "float32"
    noise_std: float = 0.0


class GradientSettings(NamedTuple):
    """How the learning signal is estimated.

    Attributes:
        method: key of `ESTIMATORS`.
        num_points: N, points on the nudge circle.
        beta_radius: |β|, radius of the nudge circle; traced where runs that differ in it train together.
        online_cycles: turns of the circle in `online_hep`.
        adjoint_steps: most iterations of `rbp` and `neumann_rbp`.
    """

    method: str = "hep"
    num_points: int = 2
    beta_radius: float | Array = 0.5
    online_cycles: int = 5
    adjoint_steps: int = 200


class Problem(NamedTuple):
    """One batch to learn from: network, parameters, real inputs, real targets (one-hot for classes).

    `key` is where the noise of its phases grows from, needed where `noise_std` is not 0. The free phase
    starts from the pre-activations `start`, from zero where there are none.
    """

    system: System
    params: Params
    inputs: Float[Array, "batch ..."]
    targets: Float[Array, "batch classes"]
    relaxation: RelaxationSettings
    gradient: GradientSettings
    key: Array | None = None
    start: State | None = None


class Phase(NamedTuple):
    """The end of a relaxation.

    Attributes:
        state: pre-activations (..., batch, *units).
        residual: ‖F(state)‖ per example, Euclidean over all layers.
        converged: residual at most `converged_residual`.
        finite: no layer holds a NaN or an infinity.
        sweeps: sweeps run.
    """

    state: State
    residual: Float[Array, "*points batch"]
    converged: Bool[Array, "*points batch"]
    finite: Bool[Array, "*points batch"]
    sweeps: Int[Array, ""]


class PhaseReport(NamedTuple):
    """What is kept of a phase for the record, per example (worst over the points of the circle)."""

    residual: Float[Array, " batch"]
    converged: Bool[Array, " batch"]
    finite: Bool[Array, " batch"]
    sweeps: Int[Array, ""]


class SignalSums(NamedTuple):
    """Error signals summed over examples, per layer (*units), real.

    Attributes:
        unsettled: over the examples whose free phase has not converged.
        total: over all; examples whose signal is not finite are left out of both.
    """

    unsettled: State
    total: State


class Estimate(NamedTuple):
    """A learning signal.

    Attributes:
        state: pre-activations at which the local learning rule was applied.
        error_vector: e per layer in activity coordinates, real; None for `bptt`, which has none.
        gradient: real, mean over the examples that are learned from; zero where there are none.
        free: the free phase; for `online_hep` the mean state of the run.
        nudged: the nudged phases or the adjoint iteration; None where there is none to report.
        signal: what each example teaches, whether it is learned from or not, real (batch, *units): the
            error vector, or for `bptt` the gradient of the loss by a constant input to each unit, which
            plays its part; None for `bptt` where examples are skipped.
    """

    state: State
    error_vector: State | None
    gradient: Gradient
    free: PhaseReport
    nudged: PhaseReport | None
    signal: State | None


Sweep = Callable[[State], State]
"""One update of every layer."""

CountedSweep = Callable[[State, "int | Array"], State]
"""One update of every layer, given how many went before it."""
