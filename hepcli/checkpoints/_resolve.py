"""Which run, and which of its steps, a path means."""

from pathlib import Path

from hepcli.checkpoints._step_files import is_number, step_folders
from hepcli.errors import CheckpointError

CHECKPOINTS_FOLDER = "checkpoints"
CONFIG_FILE = "config.toml"


def resolve_checkpoint(path: Path) -> tuple[Path, int | None]:
    """Find the run that a CHECKPOINT argument means.

    Args:
        path: a run folder, its checkpoints/ folder, or one step in it.

    Returns:
        The run folder, and the step where one was named.

    Raises:
        CheckpointError: when it does not exist, is none of the three, or holds no step.
    """
    usage = (
        "Give a run folder, its checkpoints/ folder or one checkpoint in it, such as "
        "runs/NAME/checkpoints/100."
    )
    try:
        folder = path.resolve()
    except RuntimeError as error:  # how Python 3.11 says that links lead in a circle
        raise CheckpointError(f"{path} is a link that leads to itself.", usage) from error
    if not folder.is_dir():
        raise CheckpointError(f"{path} {'is not a folder' if folder.exists() else 'does not exist'}.", usage)
    run, step = folder, None
    # The configuration decides, not the name: a run folder may itself be called "checkpoints" or "100".
    if not (run / CONFIG_FILE).is_file():
        if is_number(run.name):
            run, step = run.parent, int(run.name)
        run = run.parent if run.name == CHECKPOINTS_FOLDER else folder
    if not (run / CONFIG_FILE).is_file():
        raise CheckpointError(f"{path} is not (part of) a run: there is no {run / CONFIG_FILE}.", usage)
    if not step_folders(run / CHECKPOINTS_FOLDER):
        raise CheckpointError(
            f"{run} contains no checkpoint yet.",
            "Run the command that started it until the first checkpoint is saved.",
        )
    return run, step
