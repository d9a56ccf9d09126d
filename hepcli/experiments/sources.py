"""Where the weights lie that a run begins with: `run.init_from` as text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hepcli.checkpoints import resolve_checkpoint
from hepcli.config import expanded

INIT_KEY = "run.init_from"


def split_source(source: str) -> tuple[Path, str | None]:
    """Take a source apart.

    Args:
        source: FOLDER, FOLDER:STEP, FOLDER:best, or a file of weights.

    Returns:
        The path, and what follows its colon.

    Raises:
        ConfigError: it begins with the home of an unknown user.
    """
    path = expanded(source)
    folder, colon, step = source.rpartition(":")
    return (expanded(folder), step) if colon and not path.exists() else (path, None)


def absolute_source(source: str) -> str:
    """The same source for any working folder.

    Raises:
        CheckpointError: there is neither a file nor a run there.
        ConfigError: as `split_source`.
    """
    path, step = split_source(source)
    if not path.is_file():
        resolve_checkpoint(path)
    return str(path.absolute()) + ("" if step is None else f":{step}")


def weights_in(record: Mapping[str, Any]) -> list[object]:
    """What tells the weights apart that runs began with, of a record in init_from.json."""
    return [record.get(key) for key in ("config_hash", "step", "sha256")]


def short_source(source: str) -> str:
    """What a folder may be called after it: the name of the run or file, and the step."""
    path, step = split_source(source)
    return path.name + ("" if step is None else f"-{step}")
