"""The function behind `hep train`: one run, from configuration to summary."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from hepcli.checkpoints import CONFIG_FILE
from hepcli.config import ResolvedConfig, differences, load_config, read_config
from hepcli.errors import CheckpointError, ConfigError
from hepcli.experiments.processes import agreed, check_same_step, in_every_process, is_first
from hepcli.experiments.records import BatchDone, EpochDone, Finished, Interrupted, Record, RunStarted
from hepcli.experiments.run import Bench, Run
from hepcli.experiments.run_folder import RunFolder

__all__ = [
    "BatchDone",
    "EpochDone",
    "Finished",
    "Interrupted",
    "Record",
    "RunStarted",
    "TrainRequest",
    "open_request",
    "train",
]


class TrainRequest(NamedTuple):
    """What the command line asks for.

    Attributes:
        preset: name or path; None for the default, or with `resume` for the run's own configuration.
        overrides: KEY=VALUE texts.
        flags: dotted key -> value of an option of its own; None where not given.
        out: run folder; None for runs/<preset>-<time>.
        resume: continue the run in `out`.
        data_dir: where data sets are kept; None for the default folder.
    """

    preset: str | None = None
    overrides: Sequence[str] = ()
    flags: Mapping[str, object] = {}
    out: Path | None = None
    resume: bool = False
    data_dir: Path | None = None


def train(request: TrainRequest, stop: Callable[[], bool] = lambda: False) -> Iterator[Record]:
    """Train a network, or continue to.

    Args:
        request: what to train and where.
        stop: asked after every step; True saves and ends the run.

    Yields:
        Records of the run's progress, the last one `Finished` or `Interrupted`.

    Raises:
        ConfigError: settings that are not allowed, or that differ from those of the run to resume.
        DatasetError: the data set is missing or damaged.
        CheckpointError: there is nothing intact to resume from.
        OutputError: the folder holds a run, is in use, or cannot be written.
        DivergenceError: the loss left the finite numbers.
        ProcessError: of several processes, another one failed.
    """
    resolved, folder = open_request(request)
    folder.writes = is_first()
    run = Run(resolved.config, folder, request.data_dir, Bench(resolved.config, request.data_dir))
    stop = agreed(stop)
    if not request.resume:
        in_every_process(lambda: folder.create(resolved))
    with ExitStack() as stack:
        in_every_process(lambda: stack.enter_context(folder.claimed()))
        store = stack.enter_context(run.open_store())
        if request.resume:
            yield run.restore(store)
            check_same_step(run.step)
            if read_config(folder.path) != resolved.config:
                folder.write_config(resolved)  # more epochs
        else:
            yield run.start(store)
        yield from run.epochs(store, stop)


def open_request(request: TrainRequest) -> tuple[ResolvedConfig, RunFolder]:
    """The configuration and the folder of a run that is to start or to go on; nothing is written.

    Raises:
        ConfigError: settings that are not allowed, or that differ from those of the run to resume.
        CheckpointError: there is no run to resume.
    """
    if not request.resume:
        resolved = load_config(request.preset, request.overrides, request.flags)
        return resolved, RunFolder(request.out or _new_folder(resolved.preset))
    if request.out is None:
        raise ConfigError(
            "--resume needs to know which run.", "Give its folder: hep train --resume --out DIR"
        )
    folder = RunFolder(request.out)
    if not folder.holds_run:
        raise CheckpointError(
            f"{request.out} holds no run to resume.",
            "Start one there: leave out --resume, or choose another --out.",
        )
    saved = read_config(request.out)
    asked = _asked_for(request, folder)
    for key, old, new in differences(saved, asked.config):
        if key == "run.epochs" and asked.config.optimizer.schedule == "constant":
            continue  # training for longer changes nothing of what was done
        raise ConfigError(
            f"{key} = {_toml(new)}: the run in {request.out} was started with {_toml(old)}.",
            f"Resume it as it is: hep train --resume --out {request.out}   or start anew with another --out.",
        )
    return asked, folder


def _asked_for(request: TrainRequest, folder: RunFolder) -> ResolvedConfig:
    """The configuration that a resume asks for: the run's own, changed by what is given now."""
    preset = request.preset or str(folder.path / CONFIG_FILE)
    return load_config(preset, request.overrides, request.flags)


def _toml(value: object) -> str:
    return "nothing" if value is None else json.dumps(value)


def _new_folder(preset: str) -> Path:
    name = f"{preset}-{datetime.now():%Y%m%d-%H%M%S}"
    path, attempt = Path("runs") / name, 1
    while path.exists():
        attempt += 1
        path = Path("runs") / f"{name}-{attempt}"
    return path
