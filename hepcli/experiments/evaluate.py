"""The function behind `hep eval`: a saved network on a split."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hepcli.data import SplitName
from hepcli.engine import Gradient
from hepcli.errors import ConfigError
from hepcli.experiments.saved import SavedRun
from hepcli.experiments.task import Task
from hepcli.training import means

Examples = Literal["train", "validation", "test"]
"""Which examples: those trained on, those held out of them, or the test split."""


def evaluate(
    checkpoint: Path,
    split_name: Examples = "test",
    step: int | Literal["best"] | None = None,
    overrides: Sequence[str] = (),
    data_dir: Path | None = None,
    code: Sequence[Path] = (),
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Evaluate a checkpoint.

    Args:
        checkpoint: a run folder, its checkpoints/ or one step in it.
        split_name: which split; of "train" only those examples that were trained on.
        step: which step; "best" for the best on the validation examples, None for the one `checkpoint`
            names, else the newest intact one.
        overrides: KEY=VALUE texts, such as relaxation.free_steps=500.
        data_dir: where data sets are kept.
        code: files with own components, besides those of the run.

    Returns:
        The record with the keys of `hep eval --json`, and notices for the user.

    Raises:
        CheckpointError: not a run, no such step, nothing intact, or of another network.
        CodeError: a file with own components is missing, has changed or cannot be loaded.
        ConfigError: an override that is not allowed, or the run holds out no examples to go by.
        DatasetError: the data set is missing or damaged.
    """
    run = SavedRun(checkpoint, overrides, data_dir, code=code)
    restored = run.restore_chosen(step)
    record = evaluate_params(run.task, restored.state.params, restored.step, split_name)
    notices = filter(None, [*restored.damaged, run.task.split(loaded_split(split_name)).notice])
    place = {"step": restored.step, "checkpoint": str(run.path_of(restored.step))}
    return record | place, tuple(notices)


def evaluate_params(task: Task, params: Gradient, step: int, split_name: Examples) -> dict[str, Any]:
    """Evaluate parameters on a split.

    Args:
        task: configuration, network and data.
        params: real parameters.
        step: after which training left them there; devices' read noise follows it.
        split_name: which split; of "train" only those examples that are trained on.

    Returns:
        The record with the keys of `hep eval --json`, but for `step` and `checkpoint`.

    Raises:
        ConfigError: "validation" where no examples are held out.
        DatasetError: the data set is missing or damaged.
    """
    config, size = task.config, task.config.data.eval_batch_size
    on_devices = task.layout.replicate(task.weights_as_read(params, config, step))
    examples = examples_of(task, split_name)
    feed = task.feed(loaded_split(split_name))
    totals = task.evaluator(on_devices, feed, size, homeostasis=False, examples=examples)
    result = means(totals, nudged=False)
    record = {"dataset": config.data.name, "split": split_name, "examples": result["examples"]}
    record |= {name: result[name] for name in ("loss", "top1", "top5", "log10_residual")}
    return record | {"converged": result["settled"], "nonfinite": result["nonfinite"]}


def loaded_split(split_name: Examples) -> SplitName:
    """The split of the data set that the examples are of."""
    return "test" if split_name == "test" else "train"


def examples_of(task: Task, split_name: Examples) -> NDArray[np.int64] | None:
    """The examples of a split that are meant; None for all.

    Raises:
        ConfigError: there is no such split, or no examples are held out.
        DatasetError: the data set is missing or damaged.
    """
    if split_name not in get_args(Examples):
        raise ConfigError(
            f"split {split_name!r} is not a choice of examples.", f"Choose {' or '.join(get_args(Examples))}."
        )
    if split_name == "test":
        return None
    held_out = task.held_out(task.trained.run.seed)
    if split_name == "validation":
        if not held_out.size:
            raise ConfigError(
                "there are no validation examples: data.validation_examples = 0.",
                "Choose the train or the test split.",
            )
        return held_out
    if not held_out.size:
        return None
    return np.setdiff1d(np.arange(len(task.split("train").labels)), held_out, assume_unique=True)
