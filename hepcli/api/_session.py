"""Working inside somebody else's program: what decides numbers is given back, and nothing is printed.

Two settings of JAX stay, unless the program has made them itself: the folder of compiled programs, and as
many CPU devices as runs ask for.
"""

import functools
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from hepcli.config import Config
from hepcli.errors import ConfigError
from hepcli.experiments.ambient import borrowed_ambient

P = ParamSpec("P")
R = TypeVar("R")

Preset = str | Path | Config | Mapping[str, object]
"""A preset's name, the path of a TOML file, a configuration, or its tables."""

Overrides = Mapping[str, object] | Sequence[str]
"""Dotted keys and their values, or `KEY=VALUE` texts as of --set."""


_BELOW_CALLS = ("hepcli", "contextlib")
"""Packages of the frames between a caller of the library and its warnings."""


class HepWarning(UserWarning):
    """A notice that a command would print besides its result, such as a skipped damaged checkpoint."""


def in_session(function: Callable[P, R]) -> Callable[P, R]:
    """Run in the numbers that hep computes in, whatever the program around it has set."""

    @functools.wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with borrowed_ambient():
            return function(*args, **kwargs)

    return inside


def warn(notices: Iterable[str]) -> None:
    """Pass notices on as warnings at the line that called the library."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _BELOW_CALLS:
        level, frame = level + 1, frame.f_back
    for notice in notices:
        warnings.warn(notice, HepWarning, stacklevel=level)


def as_preset(preset: Preset | None) -> str | Mapping[str, object] | None:
    """A preset as configuration reads it.

    Raises:
        ConfigError: it is something else.
    """
    if preset is not None and not isinstance(preset, Config | str | Path | Mapping):
        raise ConfigError(
            f"a {type(preset).__name__} is not a preset.", "Give a name, a path, tables, or a model's config."
        )
    if isinstance(preset, Config):
        return preset.model_dump(mode="json")
    return str(preset) if isinstance(preset, Path) else preset


def as_source(source: object) -> str | None:
    """Where weights to start from lie; None for none.

    Raises:
        ConfigError: it is no path, or empty.
    """
    if source is None:
        return None
    if not isinstance(source, str | Path):
        raise ConfigError(f"init_from is a {type(source).__name__}.", "Give a path, such as run.folder.")
    if not str(source):
        raise ConfigError("init_from is empty.", "Give a run or a file of weights, or leave it out.")
    return str(source)


def set_once(flags: dict[str, object], key: str, value: object) -> None:
    """Add a setting that has an argument of its own; None adds nothing.

    Raises:
        ConfigError: overrides have it, too.
    """
    if value is None:
        return
    if key in flags:
        raise ConfigError(f"{key} is given twice.", "Leave it out of the overrides.")
    flags[key] = plain(value)


def as_path(path: str | Path | None) -> Path | None:
    """A path, ~ expanded."""
    return None if path is None else Path(path).expanduser()


def as_paths(paths: Sequence[str | Path]) -> list[Path]:
    """Several paths, ~ expanded; one alone is a list of one."""
    several = [paths] if isinstance(paths, str | Path) else paths
    return [Path(path).expanduser() for path in several]


def split_overrides(overrides: Overrides | None) -> tuple[Sequence[str], dict[str, object]]:
    """Overrides as texts of --set, and as keys with values; NumPy's numbers become plain ones.

    Raises:
        ConfigError: they are neither, or a value is None.
    """
    if overrides is None:
        return (), {}
    if isinstance(overrides, Mapping):
        for key, value in overrides.items():
            if not isinstance(key, str) or value is None:
                raise ConfigError(f"overrides: {key!r} = {value!r} sets nothing.", "Leave it out.")
        return (), {key: plain(value) for key, value in overrides.items()}
    overrides = overrides if isinstance(overrides, str) else list(overrides)
    if isinstance(overrides, str) or not all(isinstance(own, str) for own in overrides):
        raise ConfigError(
            f"overrides = {overrides!r}: must be a mapping of keys to values, or a list of KEY=VALUE "
            "strings.",
            'Write overrides={"gradient.num_points": 4}.',
        )
    return overrides, {}


def plain(value: Any) -> object:
    """A value without NumPy's numbers and arrays."""
    if isinstance(value, Mapping):
        return {key: plain(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [plain(own) for own in value]
    return value.tolist() if hasattr(value, "tolist") else value
