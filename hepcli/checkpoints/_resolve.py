"""Which run, and which of its steps, a path means."""

import os
from pathlib import Path

from hepcli.checkpoints._step_folders import is_number, present_steps
from hepcli.errors import CheckpointError

CHECKPOINTS_FOLDER = "checkpoints"
CONFIG_FILE = "config.toml"


def _run_of(folder: Path) -> tuple[Path, int | None]:
    """The run folder that a folder is or lies in, going by names, and the step that it is."""
    # The configuration decides, not the name: a run folder may itself be called "checkpoints" or "100".
    if (folder / CONFIG_FILE).is_file():
        return folder, None
    run, step = (folder.parent, int(folder.name)) if is_number(folder.name) else (folder, None)
    return (run.parent, step) if run.name == CHECKPOINTS_FOLDER else (folder, step)


def resolve_checkpoint(path: Path) -> tuple[Path, int | None]:
    """Find the run that a CHECKPOINT argument means.

    Args:
        path: a run folder, its checkpoints/ folder, or one step in it.

    Returns:
        The run folder, and the step where one was named.

    Raises:
        CheckpointError: when it does not exist, is none of the three, holds no step, or cannot be read.
    """
    usage = (
        "Give a run folder, its checkpoints/ folder or one checkpoint in it, such as "
        "runs/NAME/checkpoints/100."
    )
    try:
        resolved = path.resolve()
    except RuntimeError as error:  # how Python 3.11 says that links lead in a circle
        raise CheckpointError(f"{path} is a link that leads to itself.", usage) from error
    if not resolved.is_dir():
        raise CheckpointError(f"{path} {'is not a folder' if path.exists() else 'does not exist'}.", usage)
    run, step = _run_of(resolved)
    if not (run / CONFIG_FILE).is_file():
        run, step = _run_of(Path(os.path.abspath(path)))  # checkpoints/ may be a link to another disk
    if not (run / CONFIG_FILE).is_file():
        raise CheckpointError(f"{path} is not (part of) a run: there is no {run / CONFIG_FILE}.", usage)
    if not present_steps(run / CHECKPOINTS_FOLDER):
        raise CheckpointError(
            f"{run} contains no checkpoint yet.",
            "Run the command that started it until the first checkpoint is saved.",
        )
    return run, step
