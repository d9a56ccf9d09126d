"""The function behind `hep eval`: a saved network on a split."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hepcli.data import SplitName
from hepcli.experiments.saved import SavedRun
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
    config, task = run.config, run.task
    params = task.layout.replicate(task.weights_as_read(restored.state.params, config, restored.step))
    totals, _ = task.evaluator(params, task.feed(split_name), config.data.eval_batch_size, homeostasis=False)
    result = means(totals, nudged=False)
    record = {"dataset": config.data.name, "split": split_name, "examples": result["examples"]}
    record |= {name: result[name] for name in ("loss", "top1", "top5", "log10_residual")}
    record["converged"] = result["settled"]
    record |= {"nonfinite": result["nonfinite"], "step": restored.step}
    notices = filter(None, [*restored.damaged, task.split(split_name).notice])
    return record | {"checkpoint": str(run.path_of(restored.step))}, tuple(notices)
