"""The tables of a configuration: every key with its limits, its meaning and its default."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from hepcli.settings._limits import (
    STRICT,
    Count,
    CountOrNone,
    NonNegativeFloat,
    PositiveFloat,
    Seed,
    name_of,
)
from hepcli.settings.estimators import traits_of
from hepcli.settings.faults import Fault, Faults, assigned
from hepcli.settings.orders import CYCLIC, OrderName
from hepcli.settings.parts import (
    AUGMENTATIONS,
    DATASETS,
    ESTIMATORS,
    OPTIMIZERS,
    SCHEDULES,
    SOLVERS,
    TRACKERS,
    is_own_name,
)

DatasetName = Annotated[str, name_of(DATASETS, or_else=is_own_name)]
SolverName = Annotated[str, name_of(SOLVERS)]
MethodName = Annotated[str, name_of(ESTIMATORS)]
OptimizerName = Annotated[str, name_of(OPTIMIZERS)]
ScheduleName = Annotated[str, name_of(SCHEDULES)]
AugmentationName = Annotated[str, name_of(AUGMENTATIONS)]
FeedbackLearningName = Literal["gradient", "kolen_pollack", "fixed"]
UnsettledName = Literal["learn", "skip"]
TrackerName = Annotated[str, name_of(TRACKERS, or_else=str.isidentifier)]  # of a new run: only known ones
PrecisionName = Literal["float32", "bfloat16", "float16"]
ProductsName = Literal["float32", "tensorfloat32"]
SignName = Literal["positive", "random"]
RoundingName = Literal["stochastic", "nearest"]
BorderName = Literal["black", "edge"]


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """One run.

    Attributes:
        seed: seed of all random numbers of the run.
        epochs: passes over the training split.
        devices: devices that share each batch; 0 uses all GPUs, or as many CPU cores as are useful. A run
            keeps the number it was started with. It affects results only by rounding and is not part of the
            configuration hash.
        matmul_precision: what GPUs round float32 numbers to before they multiply matrices or convolve:
            `float32` keeps them whole, `tensorfloat32` keeps 10 bits of 23, several times as fast for wide
            convolutions, but not where a difference over |β| would magnify it (METHOD 1). CPUs know only the
            first.
        measure_examples: examples of the test split on which Jacobian symmetry and cosines are measured
            after every epoch, in float64; 0 leaves that out.
        patience: a run ends after that many epochs in a row without a lower validation error; 0 trains all
            epochs.
        init_from: weights to begin with: a run folder, also `FOLDER:STEP` or `FOLDER:best`, or a file that
            `hep export` wrote. Weights that match by name and shape are used; the others are initialised as
            usual.
        trackers: what follows the run beside metrics.jsonl: `tensorboard`, in its tensorboard/ folder, and
            `wandb`. They belong to no hash.
    """

    __pydantic_config__ = STRICT

    seed: Seed = 0
    epochs: Count
    devices: CountOrNone = 0
    matmul_precision: ProductsName = "float32"
    measure_examples: CountOrNone = 0
    patience: CountOrNone = 0
    init_from: str = ""
    trackers: tuple[TrackerName, ...] = ()


@dataclass(frozen=True)
class DataSettings:
    """What is learned.

    Attributes:
        name: data set.
        batch_size: examples in a training step.
        accumulate: parts into which each device divides its examples of a batch, one after the other, so that
            memory suffices; it changes results by rounding only.
        eval_batch_size: examples in an evaluation step.
        mean: of a channel of pixels/255, one per channel or one for all; subtracted from the pixels.
        std: standard deviation, likewise.
        std_scale: pixels/255 minus the mean are divided by std times this.
        augmentation: `flip_crop` flips training images left to right at random, pads them and crops them at
            random; `rand_augment` applies RandAugment between flip and crop; `none` leaves them unchanged.
        crop_padding: rows and columns of padding on each side.
        crop_border: the padding, `black` or a copy of the outermost pixels (`edge`).
        rand_augment_ops: operations on an image, one after the other.
        rand_augment_magnitude: their strength, 0 to 30.
        validation_examples: training examples held out for validation, stratified by class and chosen by the
            run's seed. The best checkpoint, `run.patience` and searches use them and never the test split;
            with 0 nothing is selected, and the latest checkpoint counts.
    """

    __pydantic_config__ = STRICT

    name: DatasetName
    batch_size: Count = 50
    accumulate: Count = 1
    eval_batch_size: Count = 1000
    mean: tuple[float, ...] = (0.0,)
    std: tuple[PositiveFloat, ...] = (1.0,)
    std_scale: PositiveFloat = 1.0
    augmentation: AugmentationName = "none"
    crop_padding: CountOrNone = 2
    crop_border: BorderName = "black"
    rand_augment_ops: Count = 2
    rand_augment_magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    validation_examples: CountOrNone = 0

    @field_validator("mean", "std")
    @classmethod
    def _check_channels(cls, values: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        if not values:
            message = "must contain one number per channel, or one for all channels"
            raise Faults([Fault(assigned(f"data.{info.field_name}", []), message)])
        return values


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
        free_precision: floating-point numbers of the free phase; of nudged phases, and where its state is
            subtracted (N = 1, `coupled_learning`, `contrastive_hebbian`), float32.
        noise_std: Gaussian noise on the state of every unit at every step, free and nudged, in training,
            evaluation and the run's own error signal; states then never settle. Methods whose second phase is
            no relaxation have it in the free phase only (METHOD §1).
        persistent_state: start the free phase of a training example from its end state of the previous epoch;
            the states of all examples are kept on every device and in checkpoints. Evaluation and measures
            start from zero.
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

    @property
    def nudged(self) -> "RelaxationSettings":
        """The settings by which nudged phases and adjoint iterations run: solver and tolerance are theirs."""
        solver = self.solver if self.nudged_solver == "same" else self.nudged_solver
        tolerance = self.tolerance if self.nudged_tolerance == "same" else self.nudged_tolerance
        return replace(self, solver=solver, tolerance=tolerance)

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
    """

    __pydantic_config__ = STRICT

    method: MethodName
    num_points: Count = 2
    beta_radius: PositiveFloat = 0.5
    online_cycles: Count = 5
    adjoint_steps: Count = 200
    beta_sign: SignName = "positive"

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
            if num_points != 1:
                message = (
                    f"needs gradient.num_points = 1: {num_points} nudges cancel the first-order error anyway"
                )
                raise Faults([Fault(key, message)])
        return beta_sign


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
class OptimizerSettings:
    """How parameters follow the gradient.

    Attributes:
        name: optimiser; `adamw` has β₁ = 0.9, β₂ = 0.999 and ε = 1e-8.
        learning_rate: step size at the start.
        schedule: `cosine` decays the learning rate to 0 over all steps.
        momentum: share of the last step that is kept (`sgd`).
        nesterov: look ahead by the momentum (Nesterov's accelerated gradient, `sgd`).
        weight_decay: factor of the L2 penalty (`sgd`) or decoupled decay (`adamw`), of kernels and biases.
        learning_rate_multipliers: connection or `readout` to a factor of the learning rate.
        weight_decay_multipliers: the same for the weight decay.
        feedback_learning: `gradient` trains top-down kernels like all others; `kolen_pollack` gives them
            the gradient of their forward partners (dense: transposed), so that the decay of both aligns them
            (with `hardware.update_step` only as far as rounding allows, which is drawn for each);
            `fixed` leaves them as they are, whatever the homeostatic loss says (feedback alignment).
    """

    __pydantic_config__ = STRICT

    name: OptimizerName
    learning_rate: PositiveFloat
    schedule: ScheduleName = "constant"
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    nesterov: bool = False
    weight_decay: NonNegativeFloat = 0.0
    learning_rate_multipliers: Mapping[str, NonNegativeFloat] = field(default_factory=dict)
    weight_decay_multipliers: Mapping[str, NonNegativeFloat] = field(default_factory=dict)
    feedback_learning: FeedbackLearningName = "gradient"


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


@dataclass(frozen=True)
class CodeSettings:
    """Files with your own components; written by hep from --code.

    Attributes:
        files: their names; a run keeps copies in its folder code/.
        sha256: of their contents, in hexadecimal.
    """

    __pydantic_config__ = STRICT

    files: tuple[str, ...] = ()
    sha256: Annotated[tuple[str, ...], Field(validate_default=True)] = ()

    @field_validator("sha256")
    @classmethod
    def _check_number(cls, sha256: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        files = info.data.get("files", ())
        if len(files) != len(sha256):
            raise Faults([Fault("code.sha256", f"must contain one hash for each of the {len(files)} files")])
        return sha256


@dataclass(frozen=True)
class CheckpointSettings:
    """Which steps stay on disk.

    Attributes:
        every_steps: steps between saves; 0 saves at the end of an epoch only.
        keep_latest: newest checkpoints that are kept.
        keep_best: checkpoints of highest accuracy on the validation examples that are kept.
        keep_every_epochs: epochs between checkpoints kept for good; 0 keeps none.
    """

    __pydantic_config__ = STRICT

    every_steps: CountOrNone = 0
    keep_latest: Count = 2
    keep_best: CountOrNone = 1
    keep_every_epochs: CountOrNone = 0
