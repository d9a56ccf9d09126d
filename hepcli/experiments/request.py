"""What a training run is asked to be, and the folder and configuration that come of it."""

import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from hepcli.checkpoints import CONFIG_FILE
from hepcli.code import check_same, code_settings, load_code
from hepcli.config import ResolvedConfig, differences, kept_code, load_config, read_config
from hepcli.errors import CheckpointError, ConfigError
from hepcli.experiments.devices import with_devices
from hepcli.experiments.figures.style import FigureFormat
from hepcli.experiments.run_folder import RunFolder
from hepcli.experiments.sources import absolute_source
from hepcli.experiments.unchanged import MAY_CHANGE


class TrainRequest(NamedTuple):
    """What the command line asks for.

    Attributes:
        preset: name, path or tables; None for the default, or with `resume` for the run's own configuration.
        overrides: KEY=VALUE texts.
        flags: dotted key -> value of an option of its own; None where not given.
        out: run folder; None for runs/<preset>-<time>.
        resume: continue the run in `out`.
        data_dir: where data sets are kept; None for the default folder.
        figure_format: of the run's curves.
        code: files with own components; a run that is resumed has its own copies.
    """

    preset: str | Mapping[str, object] | None = None
    overrides: Sequence[str] = ()
    flags: Mapping[str, object] = {}
    out: Path | None = None
    resume: bool = False
    data_dir: Path | None = None
    figure_format: FigureFormat = "png"
    code: Sequence[Path] = ()


def open_request(request: TrainRequest) -> tuple[ResolvedConfig, RunFolder]:
    """The configuration and the folder of a run that is to start or to go on; nothing is written.

    Raises:
        CodeError: a file with own components is missing, has changed or cannot be loaded.
        ConfigError: settings that are not allowed, or that differ from those of the run to resume.
        CheckpointError: there is no run to resume, or to take weights from.
    """
    code = load_code(request.code)
    if not request.resume:
        flags = {**request.flags, **code_settings(code)}
        resolved = load_config(request.preset, request.overrides, flags)
        if source := resolved.config.run.init_from:
            absolute_source(source)  # before anything is written
        return resolved, _folder(request.out, resolved.preset)
    if request.out is None:
        raise ConfigError("--resume needs the folder of the run.", "Run: hep train --resume --out DIR")
    folder = RunFolder(request.out)
    if not folder.holds_run:
        raise CheckpointError(
            f"{request.out} contains no run to resume.",
            "Start one there: leave out --resume, or choose another --out.",
        )
    kept = kept_code(request.out)
    check_same(code, kept, str(request.out))
    saved = read_config(request.out)
    asked = _asked_for(request, folder, kept)
    if asked.sources["run.devices"] != "flag":  # it goes on where it began
        asked = with_devices(asked, saved.run.devices, "the run")
    for key, old, new in differences(saved, asked.config):
        if key in MAY_CHANGE:
            continue
        config, run = (shlex.quote(str(path)) for path in (folder.path / CONFIG_FILE, folder.path))
        raise ConfigError(
            f"{key} = {_toml(new)}: the run in {request.out} was started with {_toml(old)}.",
            f"Resume it unchanged: {folder.resume_command}   or start another run from its weights: --preset "
            f"{config} --init-from {run} --out NEW",
        )
    return asked, folder


def _asked_for(request: TrainRequest, folder: RunFolder, kept: Mapping[str, object]) -> ResolvedConfig:
    """What a resume asks for: the run's own configuration and [code], changed by what is given now."""
    preset = str(folder.path / CONFIG_FILE) if request.preset is None else request.preset
    flags = {**request.flags, **{f"code.{key}": value for key, value in kept.items()}}
    return load_config(preset, request.overrides, flags, is_new=False)


def _toml(value: object) -> str:
    return "nothing" if value is None else json.dumps(value)


def _folder(out: Path | None, preset: str) -> RunFolder:
    """Where a run begins: as asked for, or in a new folder of its own."""
    if out is not None:
        return RunFolder(out)
    return RunFolder(Path("runs") / f"{preset}-{datetime.now():%Y%m%d-%H%M%S}", is_new=True)
