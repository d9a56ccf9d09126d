"""Checkpoints of runs: saved with Orbax, hashed, verified before they are loaded."""

from hepcli.checkpoints._resolve import CHECKPOINTS_FOLDER, CONFIG_FILE, resolve_checkpoint
from hepcli.checkpoints._step_files import Restored
from hepcli.checkpoints._store import CheckpointStore

__all__ = ["CHECKPOINTS_FOLDER", "CONFIG_FILE", "CheckpointStore", "Restored", "resolve_checkpoint"]
