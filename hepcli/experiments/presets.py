"""The functions behind `hep presets`."""

from hepcli import config


def list_presets() -> list[config.PresetInfo]:
    """Name and title of every shipped preset, and of every sweep: sweeps/NAME."""
    return [*config.list_presets(), *config.list_sweeps()]


def preset_text(name: str) -> str:
    """The TOML of a shipped preset; ConfigError when there is none of that name."""
    return config.preset_text(name)
