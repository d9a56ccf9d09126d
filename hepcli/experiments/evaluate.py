"""The function behind `hep eval`: a saved network on a split."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hepcli.data import SplitName
from hepcli.engine import Gradient
from hepcli.experiments.saved import SavedRun
from hepcli.experiments.task import Task
from hepcli.training import means


def evaluate(
    checkpoint: Path,
    split_name: SplitName = "test",
    step: int | None = None,
    overrides: Sequence[str] = (),
    data_dir: Path | None = None,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Evaluate a checkpoint.

    Args:
        checkpoint: a run folder, its checkpoints/ or one step in it.
        split_name: which split.
        step: which step; None for the one `checkpoint` names, else the newest intact one.
        overrides: KEY=VALUE texts, such as relaxation.free_steps=500.
        data_dir: where data sets are kept.

    Returns:
        The record with the keys of `hep eval --json`, and notices for the user.

    Raises:
        CheckpointError: not a run, no such step, nothing intact, or of another network.
        ConfigError: an override that is not allowed.
        DatasetError: the data set is missing or damaged.
    """
    run = SavedRun(checkpoint, overrides, data_dir)
    restored = run.restore(run.chosen_step(step))
    record = evaluate_params(run.task, restored.state.params, restored.step, split_name)
    notices = filter(None, [*restored.damaged, run.task.split(split_name).notice])
    place = {"step": restored.step, "checkpoint": str(run.path_of(restored.step))}
    return record | place, tuple(notices)


def evaluate_params(task: Task, params: Gradient, step: int, split_name: SplitName) -> dict[str, Any]:
    """Evaluate parameters on a split.

    Args:
        task: configuration, network and data.
        params: real parameters.
        step: after which training left them there; devices' read noise follows it.
        split_name: which split.

    Returns:
        The record with the keys of `hep eval --json`, but for `step` and `checkpoint`.

    Raises:
        DatasetError: the data set is missing or damaged.
    """
    config = task.config
    on_devices = task.layout.replicate(task.weights_as_read(params, config, step))
    totals, _ = task.evaluator(
        on_devices, task.feed(split_name), config.data.eval_batch_size, homeostasis=False
    )
    result = means(totals, nudged=False)
    record = {"dataset": config.data.name, "split": split_name, "examples": result["examples"]}
    record |= {name: result[name] for name in ("loss", "top1", "top5", "log10_residual")}
    return record | {"converged": result["settled"], "nonfinite": result["nonfinite"]}
