"""The tables of a run, its data, how parameters learn, and what is kept; those of the network lie beside."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from hepcli.settings._limits import STRICT, Count, CountOrNone, NonNegativeFloat, PositiveFloat, Seed, name_of
from hepcli.settings.faults import Fault, Faults, assigned
from hepcli.settings.options import Options, OptionsByName, checked_options
from hepcli.settings.parts import AUGMENTATIONS, DATASETS, OPTIMIZERS, SCHEDULES, TRACKERS, is_own_name

DatasetName = Annotated[str, name_of(DATASETS, or_else=is_own_name)]
OptimizerName = Annotated[str, name_of(OPTIMIZERS)]
ScheduleName = Annotated[str, name_of(SCHEDULES)]
AugmentationName = Annotated[str, name_of(AUGMENTATIONS)]
FeedbackLearningName = Literal["gradient", "kolen_pollack", "fixed"]
TrackerName = Annotated[str, name_of(TRACKERS, or_else=str.isidentifier)]  # of a new run: only known ones
ProductsName = Literal["float32", "tensorfloat32"]
BorderName = Literal["black", "edge"]


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """One run.

    Attributes:
        seed: seed of all random numbers of the run.
        epochs: passes over the training split.
        devices: devices that share each batch; 0 uses as many GPUs as divide it evenly, or as many CPU cores
            as are useful. A resumed run keeps its number unless another is given. It affects results only by
            rounding and is not part of the configuration hash.
        matmul_precision: what GPUs round float32 numbers to before they multiply matrices or convolve:
            `float32` keeps them whole, `tensorfloat32` keeps 10 bits of 23, several times as fast for wide
            convolutions, but not where a difference over |β| would magnify it (METHOD §1). CPUs know only the
            first.
        measure_examples: examples of the test split on which Jacobian symmetry and cosines are measured
            after every epoch, in float64; 0 leaves that out.
        patience: a run ends after that many epochs in a row without a lower validation error; 0 trains all
            epochs.
        init_from: weights to begin with: a run folder, also `FOLDER:STEP` or `FOLDER:best`, or a file of
            weights (.safetensors, .npz). Weights that match by name and shape are used; the others are
            initialised as usual.
        trackers: what follows the run beside metrics.jsonl: `tensorboard`, in its tensorboard/ folder, and
            `wandb`. They are not part of the configuration hash.
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
            memory suffices; it changes results by rounding only, and may change when a run is resumed.
        eval_batch_size: examples in an evaluation step; likewise.
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
        options: of an optimiser of your own, by the names that it was registered with.
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
    options: OptionsByName = field(default_factory=Options)

    @field_validator("options")
    @classmethod
    def _check_options(cls, given: OptionsByName, info: ValidationInfo) -> Options:
        return checked_options("optimizer", given, info)


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
