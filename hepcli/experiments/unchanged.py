"""Whether a run may go on: its configuration and data are those it was started with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hepcli.config import Config, flatten
from hepcli.errors import ConfigError, DatasetError
from hepcli.experiments.run_folder import other_examples
from hepcli.experiments.selection import is_over
from hepcli.experiments.task import Task

_AT_ONCE = {
    "data.accumulate": "results agree up to rounding",
    "data.eval_batch_size": "results agree up to rounding, "
    "but the homeostatic loss is that of the first batch",
}
"""Keys that say how many examples are computed at once, and what becomes of the results."""
MAY_CHANGE = ("run.epochs", "run.patience", "run.devices", "run.trackers", *_AT_ONCE)
"""Keys of a run that may change: how long it trains, where and how much at once, not what a step computes."""


def check_config(config: Config, metadata: Mapping[str, Any], folder: Path) -> None:
    """Check that config.toml still says what a checkpoint was trained with; older ones do not tell.

    Args:
        config: what config.toml says.
        metadata: of the checkpoint.
        folder: of the run.

    Raises:
        ConfigError: it was edited.
    """
    trained, current = metadata.get("config") or {}, config.model_dump(mode="json")
    before, now = _values(trained), _values(current)
    for key in dict.fromkeys([*now, *before]):
        table, name = key.split(".")[:2]
        # Known to both versions of hep; [code] is written where there is some.
        known = name in trained.get(table, {}) and (table == "code" or name in current.get(table, {}))
        if known and before.get(key) != now.get(key) and key not in MAY_CHANGE:
            raise ConfigError(
                f"{key} = {shown(now.get(key))}: the run in {folder} was started with "
                f"{shown(before.get(key))}, and its config.toml has been changed since.",
                "Restore the value, or start a new run with another --out.",
            )


def check_data(task: Task, metadata: Mapping[str, Any], folder: Path) -> None:
    """Check that the data set of a run is still the one it was trained on; older checkpoints do not tell.

    Args:
        task: with the data set that is there now.
        metadata: of the checkpoint.
        folder: of the run.

    Raises:
        DatasetError: another one has its name.
    """
    trained, name = metadata.get("data"), task.spec.name
    is_same_name = (metadata.get("config") or {}).get("data", {}).get("name") == name
    if trained is not None and is_same_name and trained != task.fingerprint:
        raise DatasetError(
            other_examples(folder, name),
            "Import the new examples under another name, and the old ones again; a data set of your own code "
            "must give the same examples at every call.",
        )


def check_length(config: Config, folder: Path, history: Sequence[dict[str, Any]], begun: int) -> None:
    """Check that a run with these numbers of epochs and of patience would have come this far.

    Args:
        config: as the run is to go on.
        folder: of the run.
        history: the lines of its epochs.
        begun: epochs that have begun.

    Raises:
        ConfigError: it would not, so that results and configuration would not match.
    """
    epochs, patience = config.run.epochs, config.run.patience
    if epochs < begun:
        raise ConfigError(
            f"run.epochs = {epochs}: the run in {folder} has already reached epoch {begun}.",
            f"Choose at least {begun} epochs, or start a new run from its weights with --init-from {folder}.",
        )
    for epoch in range(1, begun):
        if is_over(history[:epoch], patience):
            raise ConfigError(
                f"run.patience = {patience}: the run in {folder} would have ended after epoch {epoch}, but "
                f"has already reached epoch {begun}.",
                "Choose a larger run.patience, or start a new run with it.",
            )


def rounding_notices(config: Config, metadata: Mapping[str, Any]) -> list[str]:
    """Say what is computed in other parts than before.

    Args:
        config: as the run goes on.
        metadata: of the checkpoint; older ones do not tell.
    """
    before, now = _values(metadata.get("config") or {}), _values(config.model_dump(mode="json"))
    return [
        f"{key} = {now[key]}: it was {before[key]} up to here; {results}."
        for key, results in _AT_ONCE.items()
        if before.get(key, now[key]) != now[key]
    ]


def _values(tables: Mapping[str, Any]) -> dict[str, object]:
    """Every value by its dotted key, and the order of the layers, which decides what is forward."""
    values = {key: value for key, value in flatten(tables).items() if value != {}}
    if layers := tables.get("network", {}).get("layers"):
        values["network.layers"] = list(layers)
    return values


def shown(value: object) -> object:
    """A value in a message."""
    return "nothing" if value is None else value
