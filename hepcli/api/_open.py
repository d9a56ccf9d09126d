"""Networks from a run or from a configuration."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from hepcli.api._model import Model, Run
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
from hepcli.code import code_settings, load_code
from hepcli.config import load_config
from hepcli.experiments.initial import starting_params
from hepcli.experiments.saved import SavedRun
from hepcli.experiments.sources import INIT_KEY
from hepcli.experiments.task import Task


@in_session
def load_run(
    path: str | Path,
    step: int | Literal["best"] | None = None,
    overrides: Overrides | None = None,
    *,
    data_dir: str | Path | None = None,
    code: Sequence[str | Path] = (),
) -> Run:
    """Open a saved run.

    Args:
        path: a run folder, its checkpoints/ folder, or one step in it.
        step: which step; "best" for the best on the validation examples, None for the one that `path`
            names, else the newest intact one.
        overrides: settings to change, such as ``{"relaxation.free_steps": 500}``.
        data_dir: where data sets are kept; None for the default folder.
        code: files with own components, besides those that the run keeps.

    Returns:
        The run, with the parameters of that step.

    Raises:
        CheckpointError: not a run, no such step, nothing intact, or of another network.
        CodeError: a file with own components is missing, has changed or cannot be loaded, or a component is
            not what it must be.
        ConfigError: an override that is not allowed, config.toml is damaged or was edited, `step` is not that
            of `path`, or there is no best step.
        DatasetError: there is no such data set, or it no longer has the examples of the run.

    Example:
        >>> run = hepcli.load_run(folder)
        >>> run.step, run.config.gradient.method, run.network.layers
        (10, 'hep', ('l1', 'l2', 'out'))
        >>> run.params["in-l1"]["kernel"].shape
        (784, 16)
        >>> images, labels, *_ = run.split("test")
        >>> accuracy = (run.states(images[:100]).scores.argmax(axis=1) == labels[:100]).mean()
        >>> bool(0 <= accuracy <= 1)
        True
    """
    texts, flags = split_overrides(overrides)
    saved = SavedRun(Path(path).expanduser(), texts, as_path(data_dir), flags, as_paths(code))
    restored = saved.restore_chosen(step)
    warn(restored.damaged)
    return Run(
        saved.config,
        saved.task.network,
        restored.state.params,
        saved.task,
        folder=saved.folder,
        step=restored.step,
        history=restored.metadata["history"],
        checkpoint=saved.path_of(restored.step),
        _test_top1=saved.recorded_accuracy(restored),
    )


@in_session
def init_model(
    preset: Preset | None = None,
    overrides: Overrides | None = None,
    *,
    init_from: str | Path | None = None,
    data_dir: str | Path | None = None,
    code: Sequence[str | Path] = (),
) -> Model:
    """Make an untrained network, with fresh weights or those of a run or a file.

    Args:
        preset: a preset's name, the path of a TOML file, a configuration, or its tables; None is
            `quickstart`.
        overrides: settings to change, such as ``{"network.initial_angle_deg": 45.0}``.
        init_from: a run, RUN:STEP, RUN:best or a file of weights, .safetensors or .npz; arrays that match by
            name (`CONNECTION.kernel`, `CONNECTION.bias`, and those of `readout`) and shape are used; a
            warning names those that do not match. Kernels are (in, out), of convolutions (height, width,
            channels below, channels above), feedback too, and `local` ones (rows, columns, height, …).
        data_dir: where data sets are kept; None for the default folder.
        code: files with own components.

    Returns:
        The network with parameters from `run.seed`, or `init_from`.

    Raises:
        CheckpointError: `init_from` is missing or damaged, or of another network.
        CodeError: a file with own components is missing or cannot be loaded, or a component is not what it
            must be.
        ConfigError: settings that are not allowed.
        DatasetError: there is no such data set.
    """
    texts, flags = split_overrides(overrides)
    flags |= code_settings(load_code(as_paths(code)))
    set_once(flags, INIT_KEY, as_source(init_from))
    config = load_config(as_preset(preset), texts, flags).config
    task = Task(config, as_path(data_dir))
    initial = starting_params(task, config, as_path(data_dir))
    warn(initial.notices)
    return Model(config, task.network, initial.params, task)


def opened(model: Model | str | Path) -> Model:
    """A model, or that of the run at a path; raises as `load_run`."""
    return model if isinstance(model, Model) else load_run(model)
