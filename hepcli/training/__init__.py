"""Training and evaluation on the device: jitted steps, the loop, optimisers, metrics."""

from hepcli.training._evaluate import EvaluationStopped, Evaluator
from hepcli.training._feed import Batch, Feed
from hepcli.training._hardware import quantised, updates_as_taken, weights_as_read
from hepcli.training._layout import Layout, all_agree, same_everywhere
from hepcli.training._learner import (
    Augment,
    LearningSettings,
    Preprocess,
    RunNumbers,
    TrainState,
    scale_pixels,
)
from hepcli.training._loop import StepDone, check_finite, check_params, epoch_steps
from hepcli.training._measures import Measured
from hepcli.training._meter import PICTURE_STEPS, AsymmetryMeter, batch_size_for, circle_of
from hepcli.training._meter_records import BIASES, MeterSettings, Pictures, Sample
from hepcli.training._metrics import Totals, finite_or_none, in_top, kernel_stds, means, zero_totals
from hepcli.training._optimizers import build_optimizer
from hepcli.training._preprocess import Augmentation, normalizer
from hepcli.training._step import (
    StepProgram,
    TrainStep,
    fresh_memory,
    init_state,
    make_step_program,
    step_bytes,
)
from hepcli.training._summary import summarise

__all__ = [
    "BIASES",
    "PICTURE_STEPS",
    "AsymmetryMeter",
    "Augment",
    "Augmentation",
    "Batch",
    "EvaluationStopped",
    "Evaluator",
    "Feed",
    "Layout",
    "LearningSettings",
    "Measured",
    "MeterSettings",
    "Pictures",
    "Preprocess",
    "RunNumbers",
    "Sample",
    "StepDone",
    "StepProgram",
    "Totals",
    "TrainState",
    "TrainStep",
    "all_agree",
    "batch_size_for",
    "build_optimizer",
    "check_finite",
    "check_params",
    "circle_of",
    "epoch_steps",
    "finite_or_none",
    "fresh_memory",
    "in_top",
    "init_state",
    "kernel_stds",
    "make_step_program",
    "means",
    "normalizer",
    "quantised",
    "same_everywhere",
    "scale_pixels",
    "step_bytes",
    "summarise",
    "updates_as_taken",
    "weights_as_read",
    "zero_totals",
]
