"""The function behind `hep eval`: a saved network on a split."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp

from hepcli.checkpoints import CHECKPOINTS_FOLDER, CONFIG_FILE, CheckpointStore, resolve_checkpoint
from hepcli.config import Config, load_config
from hepcli.data import load_split
from hepcli.errors import ConfigError
from hepcli.experiments import build
from hepcli.training import Evaluator, init_state, means


def evaluate(
    checkpoint: Path,
    split_name: Literal["test", "train"] = "test",
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
    run, named_step = resolve_checkpoint(checkpoint)
    if step is not None and named_step is not None and step != named_step:
        raise ConfigError(f"{checkpoint} is step {named_step}, but --step is {step}.", "Give one of them.")
    config = load_config(str(run / CONFIG_FILE), overrides).config
    split = load_split(config.data.name, split_name, data_dir)
    shape = build.data_shape(split)
    network = build.build_network(config, shape)
    target = jax.eval_shape(lambda: _state(config, network))
    with CheckpointStore(run / CHECKPOINTS_FOLDER) as store:
        restored = store.restore(target, named_step if step is None else step)
    evaluator = Evaluator(
        network, shape.num_classes, build.relaxation_settings(config), config.homeostasis.num_draws
    )
    params = jax.tree.map(jnp.asarray, restored.state.params)
    totals, _ = evaluator(params, *build.to_device(split), config.data.eval_batch_size)
    found = means(totals, nudged=False)
    record = {"dataset": config.data.name, "split": split_name, "examples": found["examples"]}
    record |= {name: found[name] for name in ("loss", "top1", "top5", "log10_residual", "converged")}
    record |= {"nonfinite": found["nonfinite"], "step": restored.step}
    return record | {"checkpoint": str(run / CHECKPOINTS_FOLDER / str(restored.step))}, restored.damaged


def _state(config: Config, network: Any) -> Any:
    return init_state(build.init_params(config, network), build.build_optimizer_of(config, 1))
