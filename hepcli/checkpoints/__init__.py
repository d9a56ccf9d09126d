"""Checkpoints of runs: saved with Orbax, hashed, verified before they are loaded."""

from hepcli.checkpoints._store import (
    CHECKPOINTS_FOLDER,
    CONFIG_FILE,
    CheckpointStore,
    Restored,
    resolve_checkpoint,
)

__all__ = ["CHECKPOINTS_FOLDER", "CONFIG_FILE", "CheckpointStore", "Restored", "resolve_checkpoint"]
