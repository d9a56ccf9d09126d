"""The tables of what the network does: its phases, the error signal, homeostasis and the hardware."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from hepcli.settings._limits import STRICT, Count, NonNegativeFloat, PositiveFloat, name_of
from hepcli.settings.estimators import traits_of
from hepcli.settings.faults import Fault, Faults, assigned
from hepcli.settings.options import Options, OptionsByName, checked_options
from hepcli.settings.orders import CYCLIC, OrderName
from hepcli.settings.parts import ESTIMATORS, SOLVERS

SolverName = Annotated[str, name_of(SOLVERS)]
MethodName = Annotated[str, name_of(ESTIMATORS)]
UnsettledName = Literal["learn", "skip"]
PrecisionName = Literal["float32", "bfloat16", "float16"]
SignName = Literal["positive", "random"]
RoundingName = Literal["stochastic", "nearest"]


@dataclass(frozen=True)
class RelaxationSettings:
    """How the network settles.

    Attributes:
        solver: `synchronous` updates all layers at once, `alternating` group after group, `anderson` too,
            mixing the states it comes to; where that leads to no stable fixed point, an example runs again
            without.
        order: the groups: `cyclic` the cyclic classes of the graph, `even_odd` every other layer and then the
            rest, `sequential` layer by layer, or lists of layers. Adjoint iterations go backwards.
        free_steps: most steps of a free phase, not counting what `anderson` tried in vain.
        nudged_steps: most steps of a nudged phase, or of the derivative of `hep_exact` and `asymep_exact`;
            for `online_hep` steps per point, for `bptt` steps to go back, for `dual_propagation` and
            `predictive_coding` updates of single levels, each once a pass. `rbp` and `neumann_rbp` have
            `adjoint_steps`.
        tolerance: an example stops relaxing once a pass changes its state by less than this, in nudged phases
            by less than this times |beta|; 0 always runs all steps.
        nudged_solver: of nudged phases and adjoint iterations (`dyadic_ep` has none); `same` as `solver`.
        nudged_tolerance: likewise; `same` as `tolerance`.
        anderson_memory: differences that Anderson mixing remembers (`anderson`).
        converged_residual: residual ‖F(u)‖ up to which an example counts as settled; with a lower
            `free_precision`, so does one within its machine epsilon times ‖u‖.
        unsettled: what to do with examples whose free phase has not settled: `learn` from them like from
            all others, as the paper does, or `skip` them, so that the gradient is the mean over the rest.
            The homeostatic loss counts them either way.
        free_precision: floating-point numbers of the free phase; nudged phases are always in float32. Where
            its state is subtracted (N = 1, `coupled_learning`, `contrastive_hebbian`), only float32 is
            allowed.
        noise_std: Gaussian noise on the state of every unit at every step, free and nudged, in training,
            evaluation and the run's own error signal; states then never settle. Methods whose second phase is
            no relaxation have it in the free phase only (METHOD §1).
        persistent_state: start the free phase of a training example from its end state of the previous epoch;
            the states of all examples are kept on every device and in checkpoints. Evaluation and measures
            start from zero.
        options: of a solver of your own, by the names that it was registered with; as a `nudged_solver`
            beside another solver, it has its defaults.
    """

    __pydantic_config__ = STRICT

    solver: SolverName = "alternating"
    order: OrderName = CYCLIC
    free_steps: Count = 150
    nudged_steps: Count = 20
    tolerance: NonNegativeFloat = 0.0
    nudged_solver: SolverName | Literal["same"] = "same"
    nudged_tolerance: NonNegativeFloat | Literal["same"] = "same"
    anderson_memory: Annotated[int, Field(ge=1, le=5)] = 2
    converged_residual: PositiveFloat = 1e-3
    unsettled: UnsettledName = "learn"
    free_precision: PrecisionName = "float32"
    noise_std: NonNegativeFloat = 0.0
    persistent_state: bool = False
    options: OptionsByName = field(default_factory=Options)

    @field_validator("noise_std")
    @classmethod
    def _check_noise(cls, noise_std: float, info: ValidationInfo) -> float:
        def rests(key: str) -> bool:
            return info.data.get(key) == "anderson" or info.data.get(key, 0) not in (0, "same", *SOLVERS)

        keys = filter(rests, ("solver", "nudged_solver", "tolerance", "nudged_tolerance"))
        message = f"cannot be used with relaxation.noise_std = {noise_std}: noisy states never settle"
        faults = [Fault(assigned(f"relaxation.{key}", info.data[key]), message) for key in keys]
        if info.data.get("unsettled") == "skip":
            faults.append(Fault(assigned("relaxation.unsettled", "skip"), message))
        if noise_std and faults:
            raise Faults(faults)
        return noise_std

    @field_validator("options")
    @classmethod
    def _check_options(cls, given: OptionsByName, info: ValidationInfo) -> Options:
        return checked_options("relaxation", given, info)

    @property
    def nudged(self) -> "RelaxationSettings":
        """The settings by which nudged phases and adjoint iterations run: solver and tolerance are theirs."""
        solver = self.solver if self.nudged_solver == "same" else self.nudged_solver
        tolerance = self.tolerance if self.nudged_tolerance == "same" else self.nudged_tolerance
        options = self.options if solver == self.solver else Options(SOLVERS.options_of(solver))
        return replace(self, solver=solver, tolerance=tolerance, options=options)

    def nudged_by(self, radius: float) -> "RelaxationSettings":
        """The same where signals are differences of states over |β| = `radius`: so is what a pass changes."""
        nudged = self.nudged
        return replace(nudged, tolerance=nudged.tolerance * radius if nudged.tolerance else 0.0)


@dataclass(frozen=True)
class GradientSettings:
    """How the error signal is computed.

    Attributes:
        method: estimator of the error vector or gradient; `feedforward` is backpropagation through the
            network without its feedback, which is then left out wherever the network is used.
        num_points: nudges on the circle (`hep`, `asymep`, `contrastive_ep`, `online_hep`).
        beta_radius: radius |beta| of that circle, or the nudge of `dual_propagation` and `predictive_coding`
            (and of `dyadic_ep`, where it matters only with noise); for `coupled_learning`, at most 1, the
            share of the way to the targets.
        online_cycles: turns of the circle (`online_hep`).
        adjoint_steps: iterations of `rbp` and `neumann_rbp`.
        beta_sign: of the single nudge of num_points = 1: `positive`, or `random` for every batch, so that the
            error of odd order in |beta| averages out.
        options: of an estimator of your own, by the names that it was registered with.
    """

    __pydantic_config__ = STRICT

    method: MethodName
    num_points: Count = 2
    beta_radius: PositiveFloat = 0.5
    online_cycles: Count = 5
    adjoint_steps: Count = 200
    beta_sign: SignName = "positive"
    options: OptionsByName = field(default_factory=Options)

    @field_validator("num_points")
    @classmethod
    def _check_num_points(cls, num_points: int, info: ValidationInfo) -> int:
        method = info.data.get("method")
        if num_points < 2 and method is not None and num_points < traits_of(method).min_points:
            least = f"must be at least {traits_of(method).min_points} with gradient.method = "
            raise Faults([Fault(assigned("gradient.num_points", num_points), f'{least}"{method}"')])
        return num_points

    @field_validator("beta_sign")
    @classmethod
    def _check_beta_sign(cls, beta_sign: str, info: ValidationInfo) -> str:
        method, num_points = info.data.get("method"), info.data.get("num_points", 1)
        if beta_sign == "random" and method is not None:
            key = assigned("gradient.beta_sign", beta_sign)
            if not traits_of(method).uses_circle:
                raise Faults(
                    [Fault(key, f"applies only to estimators that nudge on a circle, and {method} does not")]
                )
            least = traits_of(method).min_points
            if least > 1:
                message = f"must be positive: {method} needs gradient.num_points of at least {least}"
                raise Faults([Fault(key, message)])
            if num_points != 1:
                message = (
                    f"needs gradient.num_points = 1: {num_points} nudges cancel the first-order error anyway"
                )
                raise Faults([Fault(key, message)])
        return beta_sign

    @field_validator("options")
    @classmethod
    def _check_options(cls, given: OptionsByName, info: ValidationInfo) -> Options:
        return checked_options("gradient", given, info)


@dataclass(frozen=True)
class HomeostasisSettings:
    """The Jacobian homeostasis that keeps feedback aligned.

    Attributes:
        weight: factor of the homeostatic loss; 0 leaves it out.
        num_draws: random directions for each example.
    """

    __pydantic_config__ = STRICT

    weight: NonNegativeFloat = 0.0
    num_draws: Count = 5


@dataclass(frozen=True)
class HardwareSettings:
    """Imperfections of the hardware that stores the kernels, including the readout's; biases are exact.

    Attributes:
        weight_bits: bits of a weight, between plus and minus the largest of its kernel; 0 leaves weights as
            they are. Updates go to a float copy.
        mismatch_std: standard deviation of the factor, about 1, of every weight's device; drawn once from
            `run.seed`, for training and evaluation.
        read_noise_std: standard deviation of another such factor, drawn anew for every batch and shared by
            its phases; an evaluation draws once. What changes from step to step is `relaxation.noise_std`.
        update_step: smallest change of a weight, in its own units: updates are multiples of it; 0 for any.
        update_rounding: of updates to these multiples: `stochastic` is right on average, `nearest` loses what
            is less than half a step.
    """

    __pydantic_config__ = STRICT

    weight_bits: Annotated[int, Field(ge=0, le=24)] = 0
    mismatch_std: NonNegativeFloat = 0.0
    read_noise_std: NonNegativeFloat = 0.0
    update_step: NonNegativeFloat = 0.0
    update_rounding: RoundingName = "stochastic"

    @field_validator("weight_bits")
    @classmethod
    def _check_weight_bits(cls, weight_bits: int) -> int:
        if weight_bits == 1:
            message = (
                "must be 0 (weights stay as they are) or at least 2 (a single bit cannot represent zero)"
            )
            raise Faults([Fault(assigned("hardware.weight_bits", weight_bits), message)])
        return weight_bits

    @property
    def changes_weights(self) -> bool:
        """Whether weights are read as anything but what they are."""
        return bool(self.weight_bits or self.mismatch_std or self.read_noise_std)
