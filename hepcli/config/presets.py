"""The presets that ship with the tool."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

from hepcli.errors import ConfigError
from hepcli.settings import did_you_mean

DEFAULT_PRESET = "quickstart"
SWEEPS = "sweeps/"


class PresetInfo(NamedTuple):
    """A preset in a list.

    Attributes:
        name: what --preset takes.
        title: the first line of its header comment.
    """

    name: str
    title: str


def presets_folder() -> Traversable:
    """Find the presets: inside an installed package, or beside it in a source checkout."""
    package = files("hepcli")
    inside = package / "presets"
    return inside if inside.is_dir() else Path(str(package)).parent / "presets"


def list_presets() -> list[PresetInfo]:
    """List the shipped presets by name."""
    return [PresetInfo(name, _title(file.read_text(encoding="utf-8"))) for name, file in _files().items()]


def preset_text(name: str) -> str:
    """Return the TOML of a shipped preset.

    Args:
        name: name of the preset, without `.toml`.

    Returns:
        The file's text, comments included.

    Raises:
        ConfigError: there is no such preset.
    """
    if name.startswith(SWEEPS):
        return sweep_text(name.removeprefix(SWEEPS))
    presets = _files()
    if name not in presets and name in _files(SWEEPS):
        raise ConfigError(f"{name} is a sweep, not a preset.", f"Run `hep sweep {name}`.")
    if name not in presets:
        hint = did_you_mean(name, [*presets, *_files(SWEEPS)])
        raise ConfigError(
            f'there is no preset "{name}"{hint} (presets: {", ".join(presets)})',
            "Run `hep presets` to see them; your own preset is given as a path ending in .toml.",
        )
    return presets[name].read_text(encoding="utf-8")


def list_sweeps() -> list[PresetInfo]:
    """List the shipped sweeps by name, as `hep presets` takes them: sweeps/NAME."""
    return [
        PresetInfo(SWEEPS + name, _title(file.read_text(encoding="utf-8")))
        for name, file in _files(SWEEPS).items()
    ]


def sweep_text(name: str) -> str:
    """Return the TOML of a shipped sweep.

    Args:
        name: name of the sweep, without `.toml`.

    Returns:
        The file's text, comments included.

    Raises:
        ConfigError: there is no such sweep.
    """
    sweeps = _files(SWEEPS)
    if name not in sweeps and name in _files():
        raise ConfigError(
            f"{name} is a preset, not a sweep.", f"Run `hep sweep --preset {name} --vary KEY=V1,V2`."
        )
    if name not in sweeps:
        raise ConfigError(
            f'there is no sweep "{name}"{did_you_mean(name, sweeps)} (sweeps: {", ".join(sweeps)})',
            "Run `hep presets` to see them; your own sweep is given as a path ending in .toml, "
            "or as --preset NAME --vary KEY=V1,V2.",
        )
    return sweeps[name].read_text(encoding="utf-8")


def _files(folder: str = "") -> dict[str, Traversable]:
    result = (file for file in (presets_folder() / folder).iterdir() if file.name.endswith(".toml"))
    named = {file.name.removesuffix(".toml"): file for file in result}
    return dict(sorted(named.items()))


def _title(text: str) -> str:
    first = text.partition("\n")[0]
    return first.lstrip("# ").rstrip() if first.startswith("#") else ""
