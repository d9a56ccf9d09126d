"""The tables of a configuration; defaults live here and nowhere else."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from hepcli.config.network import READOUT, NetworkConfig, Table
from hepcli.config.problems import Problem, Problems, assigned, did_you_mean

DatasetName = Literal["fashion_mnist_mini", "fashion_mnist", "cifar10", "cifar100", "imagenet32"]
SolverName = Literal["synchronous", "alternating"]
MethodName = Literal[
    "hep", "hep_exact", "online_hep", "rbp", "neumann_rbp", "bptt", "asymep", "asymep_exact", "dyadic_ep"
]
OptimizerName = Literal["sgd", "adamw"]
ScheduleName = Literal["constant", "cosine"]
FeedbackLearningName = Literal["gradient", "kolen_pollack", "fixed"]
AugmentationName = Literal["none", "flip_crop"]
UnsettledName = Literal["learn", "skip"]
PrecisionName = Literal["float32", "bfloat16", "float16"]

Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
NonNegativeFloat = Annotated[float, Field(ge=0.0)]
# A random key holds 32 bits of seed; larger seeds would silently repeat smaller ones.
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]

MULTIPLIERS = ("learning_rate_multipliers", "weight_decay_multipliers")


class RunConfig(Table):
    """One run.

    Attributes:
        seed: number that all randomness of the run grows from.
        epochs: passes over the training split.
        measure_examples: examples of the test split on which Jacobian symmetry and cosines are measured
            after every epoch, in float64; 0 leaves that out.
    """

    seed: Seed = 0
    epochs: Count
    measure_examples: CountOrNone = 0


class DataConfig(Table):
    """What is learned.

    Attributes:
        name: data set.
        batch_size: examples in a training step.
        eval_batch_size: examples in an evaluation step.
        mean: of a channel of pixels/255, one for each channel or one for all; taken off the pixels.
        std: standard deviation, likewise.
        std_scale: pixels/255 less their mean are divided by std times this.
        augmentation: `flip_crop` flips training images left to right at random, surrounds them with black
            and crops them at random; `none` leaves them.
        crop_padding: rows and columns of black on each side.
    """

    name: DatasetName
    batch_size: Count = 50
    eval_batch_size: Count = 1000
    mean: tuple[float, ...] = (0.0,)
    std: tuple[PositiveFloat, ...] = (1.0,)
    std_scale: PositiveFloat = 1.0
    augmentation: AugmentationName = "none"
    crop_padding: CountOrNone = 2

    @field_validator("mean", "std")
    @classmethod
    def _check_channels(cls, values: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        if not values:
            message = "must hold a number for each channel, or one for all"
            raise Problems([Problem(assigned(f"data.{info.field_name}", []), message)])
        return values


class RelaxationConfig(Table):
    """How the network settles.

    Attributes:
        solver: order in which the layers are updated.
        free_steps: most steps of a free phase.
        nudged_steps: most steps of a nudged phase.
        tolerance: a phase ends early once every example moves less than this in a sweep; 0 runs all steps.
        converged_residual: residual ‖F(u)‖ up to which an example counts as converged.
        unsettled: what to do with examples whose free phase has not converged: `learn` from them like from
            all others, as the paper does, or `skip` them, so that the gradient is the mean over the rest.
            The homeostatic loss counts them either way.
        free_precision: floating-point numbers of the free phase; nudged phases are float32.
        noise_std: Gaussian noise on the state of every unit at every step, free and nudged, in training,
            evaluation and the run's own signal; no state then comes to rest.
        persistent_state: start the free phase of a training example from where it ended last, an epoch
            ago; the states of all examples are kept on every device and in checkpoints.
    """

    solver: SolverName = "alternating"
    free_steps: Count = 150
    nudged_steps: Count = 20
    tolerance: NonNegativeFloat = 0.0
    converged_residual: PositiveFloat = 1e-3
    unsettled: UnsettledName = "learn"
    free_precision: PrecisionName = "float32"
    noise_std: NonNegativeFloat = 0.0
    persistent_state: bool = False


class GradientConfig(Table):
    """How the learning signal is computed.

    Attributes:
        method: estimator of the error vector or gradient.
        num_points: nudges on the circle (`hep`, `asymep`, `online_hep`).
        beta_radius: radius |beta| of that circle.
        online_cycles: turns of the circle (`online_hep`).
        adjoint_steps: iterations of `rbp` and `neumann_rbp`.
    """

    method: MethodName
    num_points: Count = 2
    beta_radius: PositiveFloat = 0.5
    online_cycles: Count = 5
    adjoint_steps: Count = 200

    @field_validator("num_points")
    @classmethod
    def _check_num_points(cls, num_points: int, info: ValidationInfo) -> int:
        if info.data.get("method") == "online_hep" and num_points < 2:
            message = 'must be at least 2 with gradient.method = "online_hep"'
            raise Problems([Problem(assigned("gradient.num_points", num_points), message)])
        return num_points


class HomeostasisConfig(Table):
    """The Jacobian homeostasis that keeps feedback aligned.

    Attributes:
        weight: factor of the homeostatic loss; 0 leaves it out.
        num_draws: random directions for each batch.
    """

    weight: NonNegativeFloat = 0.0
    num_draws: Count = 5


class OptimizerConfig(Table):
    """How parameters follow the gradient.

    Attributes:
        name: optimizer.
        learning_rate: step size at the start.
        schedule: `cosine` decays the learning rate to 0 over all steps.
        momentum: share of the last step that is kept (`sgd`).
        weight_decay: factor of the L2 penalty (`sgd`) or decoupled decay (`adamw`).
        learning_rate_multipliers: connection or `readout` to a factor of the learning rate.
        weight_decay_multipliers: the same for the weight decay.
        feedback_learning: `gradient` trains top-down kernels like all others; `kolen_pollack` gives them
            the gradient of their forward partners, transposed, so that the decay of both aligns them;
            `fixed` leaves them as they are (feedback alignment). The homeostatic loss adds its own.
    """

    name: OptimizerName
    learning_rate: PositiveFloat
    schedule: ScheduleName = "constant"
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    weight_decay: NonNegativeFloat = 0.0
    learning_rate_multipliers: Mapping[str, NonNegativeFloat] = Field(default_factory=dict)
    weight_decay_multipliers: Mapping[str, NonNegativeFloat] = Field(default_factory=dict)
    feedback_learning: FeedbackLearningName = "gradient"


class CheckpointsConfig(Table):
    """Which steps stay on disk.

    Attributes:
        every_steps: steps between saves; 0 saves at the end of an epoch only.
        keep_latest: newest checkpoints that are kept.
        keep_best: checkpoints of highest accuracy that are kept.
        keep_every_epochs: epochs between checkpoints kept for good; 0 keeps none.
    """

    every_steps: CountOrNone = 0
    keep_latest: Count = 2
    keep_best: CountOrNone = 1
    keep_every_epochs: CountOrNone = 0


class Config(Table):
    """Everything that decides what a run computes, one attribute for each table."""

    run: RunConfig
    data: DataConfig
    network: NetworkConfig
    relaxation: RelaxationConfig = Field(default_factory=RelaxationConfig)
    gradient: GradientConfig
    homeostasis: HomeostasisConfig = Field(default_factory=HomeostasisConfig)
    optimizer: OptimizerConfig
    checkpoints: CheckpointsConfig = Field(default_factory=CheckpointsConfig)

    @model_validator(mode="after")
    def _check_across_tables(self) -> "Config":
        names = multiplier_names(self.network.connections, self.network.readout)
        by_key = {key: getattr(self.optimizer, key) for key in MULTIPLIERS}
        problems = multiplier_problems(by_key, names)
        if self.relaxation.persistent_state and self.gradient.method in ("online_hep", "dyadic_ep"):
            key = assigned("relaxation.persistent_state", True)
            problems.append(Problem(key, f"{self.gradient.method} has no free phase to start"))
        if self.optimizer.feedback_learning == "kolen_pollack":
            problems += _kolen_pollack_problems(self.network, self.optimizer)
        if problems:
            raise Problems(problems)
        return self


def _kolen_pollack_problems(network: NetworkConfig, optimizer: OptimizerConfig) -> list[Problem]:
    """Check that every top-down kernel has a partner, and that their difference decays."""
    key = assigned("optimizer.feedback_learning", optimizer.feedback_learning)
    problems = []
    if optimizer.weight_decay == 0:
        problems.append(Problem(key, "needs optimizer.weight_decay above 0, which aligns the kernels"))
    for name in filter(network.is_top_down, network.connections):
        partner = network.partner(name)
        if partner is None:
            problems.append(Problem(key, f"{name} has no forward partner to learn from"))
            continue
        for table in MULTIPLIERS:
            factors = getattr(optimizer, table)
            if factors.get(name, 1.0) != factors.get(partner, 1.0):
                problems.append(Problem(key, f"needs equal optimizer.{table} of {name} and {partner}"))
    return problems


def multiplier_names(connections: Iterable[str], readout: bool) -> list[str]:
    """List what a multiplier may name.

    Args:
        connections: connections of the network.
        readout: whether the network has a readout.

    Returns:
        The connections, then `readout` where there is one.
    """
    return [*connections, READOUT] if readout else list(connections)


def multiplier_problems(by_key: Mapping[str, Mapping[str, object]], names: list[str]) -> list[Problem]:
    """Check that each multiplier names a connection of the network, or its readout.

    Args:
        by_key: key of the [optimizer] table to its table of multipliers.
        names: what `multiplier_names` lists.

    Returns:
        One problem for each name the network does not have.
    """
    return [
        Problem(
            assigned(f"optimizer.{key}.{name}", factor),
            f"the network has no connection {name}{did_you_mean(name, names)}",
        )
        for key, multipliers in by_key.items()
        for name, factor in multipliers.items()
        if name not in names
    ]
