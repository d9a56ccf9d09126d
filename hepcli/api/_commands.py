"""What the commands do, as functions: train, evaluate, measure."""

import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hepcli.api._model import Model, Run
from hepcli.api._open import opened
from hepcli.api._session import (
    Overrides,
    Preset,
    as_path,
    as_paths,
    as_preset,
    as_source,
    in_session,
    set_once,
    split_overrides,
    warn,
)
from hepcli.code import kept_current
from hepcli.errors import ConfigError
from hepcli.experiments.evaluate import Examples, evaluate_params, loaded_split
from hepcli.experiments.figures.style import FigureFormat
from hepcli.experiments.measurement import Measurement
from hepcli.experiments.sources import INIT_KEY
from hepcli.experiments.train import EpochDone, Finished, Interrupted, RunStarted, TrainEvent, TrainRequest
from hepcli.experiments.train import train as train_run


@in_session
def train(
    preset: Preset | None = None,
    overrides: Overrides | None = None,
    out: str | Path | None = None,
    *,
    seed: int | None = None,
    epochs: int | None = None,
    init_from: str | Path | None = None,
    resume: bool = False,
    data_dir: str | Path | None = None,
    figure_format: FigureFormat = "png",
    code: Sequence[str | Path] = (),
    on_event: Callable[[TrainEvent], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Finished | Interrupted:
    """Train a network or continue a run, like `hep train`.

    Args:
        preset: a preset's name, the path of a TOML file, a configuration, or its tables; None is
            `quickstart`, or with `resume` what the run was started with.
        overrides: settings to change, such as ``{"gradient.num_points": 4}``.
        out: run folder; None for runs/<preset>-<time>.
        seed: of the run; None for the preset's.
        epochs: passes over the training images; None for the preset's.
        init_from: a run, RUN:STEP, RUN:best or a file of weights, .safetensors or .npz; those that match by
            name and shape are used as the start.
        resume: continue the run in `out` exactly from its last checkpoint.
        data_dir: where data sets are kept; None for the default folder.
        figure_format: of the run's curves, "png", "pdf" or "svg".
        code: files with own components; the run keeps copies.
        on_event: given every record of the run's progress; without it notices become warnings.
        stop: asked after every step; True saves and ends the run, which can be resumed.

    Returns:
        `Finished` with the run's `folder` and `summary`, or `Interrupted` where it was stopped.

    Raises:
        ConfigError: settings that are not allowed, or that differ from those of the run to resume.
        DatasetError: the data set is missing or damaged.
        CheckpointError: there is nothing intact to resume from, or to take weights from.
        CodeError: a file with own components is missing, has changed or cannot be loaded.
        OutputError: the folder holds a run, is in use, or cannot be written.
        DivergenceError: the loss or the weights became NaN or infinite.

    Example:
        >>> small = {"network.layers.l1.units": 16, "network.layers.l2.units": 12, "data.batch_size": 500}
        >>> small["relaxation.free_steps"] = 20
        >>> done = hepcli.train("quickstart", small, out=folder, epochs=1)
        >>> done.summary["epochs"], sorted(done.summary["test"])[:3]
        (1, ['examples', 'log10_residual', 'loss'])
        >>> hepcli.load_run(done.folder).step == done.summary["steps"]
        True
    """
    texts, flags = split_overrides(overrides)
    for key, value in (("run.seed", seed), ("run.epochs", epochs), (INIT_KEY, as_source(init_from))):
        set_once(flags, key, value)
    request = TrainRequest(
        preset=as_preset(preset),
        overrides=texts,
        flags=flags,
        out=as_path(out),
        resume=resume,
        data_dir=as_path(data_dir),
        figure_format=figure_format,
        code=as_paths(code),
    )
    last: TrainEvent | None = None
    for last in train_run(request, stop):
        if on_event is not None:
            with kept_current():
                on_event(last)
        elif isinstance(last, RunStarted | EpochDone | Finished):
            warn(last.notices)
    if not isinstance(last, Finished | Interrupted):
        raise RuntimeError("training ended without a last record")
    return last


@in_session
def evaluate(model: Model | str | Path, split: Examples = "test") -> dict[str, Any]:
    """Evaluate a network on a split.

    Args:
        model: a run or an untrained network, or the path of a run: short for `load_run(path)`.
        split: "test", "validation" (the held-out examples), or "train" (the examples used for training).

    Returns:
        What `hep eval --json` prints; `step` and `checkpoint` only of a run.

    Raises:
        CheckpointError: not a run, nothing intact, or of another network.
        CodeError: a file with own components is missing, has changed or cannot be loaded.
        ConfigError: there is no such split, or no examples are held out for validation.
        DatasetError: the data set is missing or damaged.
    """
    model = opened(model)
    model._task.make_current()
    params = {name: dict(own) for name, own in model.params.items()}
    record = evaluate_params(model._task, params, model.step, split)
    warn(filter(None, [model._task.split(loaded_split(split)).notice]))
    place = {"step": model.step, "checkpoint": _checkpoint(model)}
    return record | (place if isinstance(model, Run) else {})


@in_session
def measure(
    model: Model | str | Path, examples: int | None = None, split: Examples = "test"
) -> dict[str, Any]:
    """Measure how far a network's error signal deviates from the gradient, and why; no files are written.

    Everything is computed in float64, but for the run's own free phase where `relaxation.free_precision` is
    lower.

    Args:
        model: a run or an untrained network, or the path of a run: short for `load_run(path)`.
        examples: how many, the first of the split; None for 256, or all where there are fewer.
        split: "test", "validation" (the held-out examples), or "train" (the examples used for training).

    Returns:
        What `hep measure-asymmetry --json` prints, but for the figures and `init_from`.

    Raises:
        CheckpointError: not a run, nothing intact, or of another network.
        CodeError: a file with own components is missing, has changed or cannot be loaded.
        ConfigError: there is no such split, or `examples` is not a whole number from 1 to its size.
        DatasetError: the data set is missing or damaged.
    """
    model = opened(model)
    model._task.make_current()
    if examples is not None:
        try:
            examples = operator.index(examples)
        except TypeError as error:
            raise ConfigError(
                f"examples = {examples!r}: must be a whole number.",
                'Write measure(model, 100, split="train") for the first 100 of that split.',
            ) from error
    measurement = Measurement(model._task, split, examples, key="examples =")
    warn(filter(None, [model._task.split(loaded_split(split)).notice]))
    if not isinstance(model, Run):
        return measurement.record(model.params, 0, None, None)
    return measurement.record(model.params, model.step, _checkpoint(model), model._test_top1)


def _checkpoint(model: Model) -> str | None:
    return str(model.checkpoint) if isinstance(model, Run) and model.checkpoint is not None else None
