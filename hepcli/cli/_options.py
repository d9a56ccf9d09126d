"""Options that several commands share, declared once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from hepcli.cli import _complete as complete
from hepcli.errors import ConfigError


def user_path(text: str) -> Path:
    """A path as a user writes it: ~ is expanded, nothing at all is refused."""
    if not text:
        raise typer.BadParameter("is empty; give a path, or . for the current folder")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # no home, or no such user
        raise typer.BadParameter(f"{text}: {error}") from error


def not_empty(text: str) -> str:
    """What a user writes; nothing at all, such as an unset variable of a shell, is refused."""
    if not text:
        raise typer.BadParameter("is empty; leave out the option, or give a value")
    return text


class SplitChoice(StrEnum):
    """Examples of a data set."""

    TEST = "test"
    VALIDATION = "validation"
    TRAIN = "train"


Code = Annotated[
    list[Path] | None,
    typer.Option(
        "--code",
        parser=user_path,
        metavar="FILE.py",
        help="Load your own components (estimators, losses, …) from a Python file; runs keep a copy. May "
        "be repeated.",
        show_default=False,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        parser=user_path,
        metavar="DIR",
        help="Folder for data sets. Default: $HEP_DATA_DIR, or ~/.local/share/hep.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result to stdout as a JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Hide progress and tables.")]


class FigureFormat(StrEnum):
    """Formats of figures."""

    PNG = "png"
    PDF = "pdf"
    SVG = "svg"


Format = Annotated[FigureFormat, typer.Option("--format", help="Format of the figures.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        autocompletion=complete.keys,
        help="Override a setting, such as data.name=mnist. May be repeated.",
        show_default=False,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        parser=not_empty,
        metavar="NAME|FILE.toml",
        autocompletion=complete.preset_names,
        help="Name of a preset (see `hep presets`) or a TOML file.",
        show_default=False,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", help="Random seed. Default: the preset's.", show_default=False),
]
InitFrom = Annotated[
    str | None,
    typer.Option(
        "--init-from",
        parser=not_empty,
        metavar="RUN[:STEP|:best]",
        autocompletion=complete.runs,
        help="Start from the weights of another run, or of a .safetensors or .npz file; those that match by "
        "name and shape are used.",
        show_default=False,
    ),
]
SplitName = Annotated[SplitChoice, typer.Option("--split", help="Which split to use.")]
Checkpoint = Annotated[
    Path,
    typer.Argument(
        parser=user_path,
        metavar="CHECKPOINT",
        autocompletion=complete.runs,
        help="A run folder, its checkpoints/ folder, or one checkpoint in it.",
    ),
]
Step = Annotated[
    int | None,
    typer.Option(
        "--step",
        metavar="N",
        help="Training step of the checkpoint to use. Default: the newest.",
        show_default=False,
    ),
]
Best = Annotated[
    bool,
    typer.Option("--best", help="Use the checkpoint with the lowest validation error instead of the newest."),
]


def chosen_step(step: int | None, *, best: bool) -> int | Literal["best"] | None:
    """What --step and --best ask for together.

    Raises:
        ConfigError: both are given.
    """
    if best and step is not None:
        raise ConfigError(f"--best and --step {step} cannot be combined.", "Give only one of them.")
    return "best" if best else step
