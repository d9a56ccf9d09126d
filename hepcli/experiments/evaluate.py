"""The function behind `hep eval`: a saved network on a split."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hepcli.data import SplitName
from hepcli.errors import ConfigError
from hepcli.experiments.saved import SavedRun
from hepcli.training import means


def evaluate(
    checkpoint: Path,
    split_name: SplitName | Literal["validation"] = "test",
    step: int | Literal["best"] | None = None,
    overrides: Sequence[str] = (),
    data_dir: Path | None = None,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Evaluate a checkpoint.

    Args:
        checkpoint: a run folder, its checkpoints/ or one step in it.
        split_name: which split; of "train" only those examples that were trained on.
        step: which step; "best" for the best on the validation examples, None for the one `checkpoint`
            names, else the newest intact one.
        overrides: KEY=VALUE texts, such as relaxation.free_steps=500.
        data_dir: where data sets are kept.

    Returns:
        The record with the keys of `hep eval --json`, and notices for the user.

    Raises:
        CheckpointError: not a run, no such step, nothing intact, or of another network.
        ConfigError: an override that is not allowed, or the run holds out no examples to go by.
        DatasetError: the data set is missing or damaged.
    """
    run = SavedRun(checkpoint, overrides, data_dir)
    restored = run.restore(run.chosen_step(run.best_step() if step == "best" else step))
    config, task = run.config, run.task
    params = task.layout.replicate(restored.state.params)
    loaded: SplitName = "test" if split_name == "test" else "train"
    feed, size = task.feed(loaded), config.data.eval_batch_size
    examples = _examples(run, split_name)
    totals, _ = task.evaluator(params, feed, size, homeostasis=False, examples=examples)
    result = means(totals, nudged=False)
    record = {"dataset": config.data.name, "split": split_name, "examples": result["examples"]}
    record |= {name: result[name] for name in ("loss", "top1", "top5", "log10_residual")}
    record["converged"] = result["settled"]
    record |= {"nonfinite": result["nonfinite"], "step": restored.step}
    notices = filter(None, [*restored.damaged, task.split(loaded).notice])
    return record | {"checkpoint": str(run.path_of(restored.step))}, tuple(notices)


def _examples(run: SavedRun, split_name: str) -> NDArray[np.int64] | None:
    """The examples of a split that are meant; None for all."""
    if split_name == "test":
        return None
    held_out = run.task.held_out(run.config.run.seed)
    if split_name == "validation" and not held_out.size:
        raise ConfigError(
            f"{run.folder} holds out no examples: it was trained with data.validation_examples = 0.",
            "Choose --split train or test.",
        )
    if split_name == "validation" or not held_out.size:
        return held_out if held_out.size else None
    return np.setdiff1d(np.arange(len(run.task.split("train").labels)), held_out, assume_unique=True)
