"""The functions behind `hep presets`."""

from hepcli import config
from hepcli.errors import ConfigError
from hepcli.settings import did_you_mean


def list_presets() -> list[config.PresetInfo]:
    """Name and title of every shipped preset, and of every sweep: sweeps/NAME."""
    return [*config.list_presets(), *config.list_sweeps()]


def setting_keys() -> list[str]:
    """The keys that --set takes, with those of the layers of the default preset; own layers have more."""
    return list(config.flatten(config.load_config(None).config.model_dump(mode="json")))


def preset_text(name: str) -> str:
    """The TOML of a preset, every value resolved and with its source, or of a sweep as it stands.

    Args:
        name: name of a shipped preset, path of a TOML file, or sweeps/NAME; of a sweep NAME will do.

    Returns:
        TOML that `hep train --preset` or `hep sweep` takes.

    Raises:
        ConfigError: there is none of that name, or it is not allowed.
    """
    names = {own.name for own in list_presets()}
    if name not in names and config.SWEEPS + name in names:
        name = config.SWEEPS + name
    if name.startswith(config.SWEEPS):
        return config.preset_text(name)
    sweeps = [own.removeprefix(config.SWEEPS) for own in names if own.startswith(config.SWEEPS)]
    if name not in names and not config.is_path(name) and (hint := did_you_mean(name, [*names, *sweeps])):
        raise ConfigError(
            f'there is no preset or sweep "{name}"{hint}', "Run `hep presets` to see the presets and sweeps."
        )
    return config.dump_config(config.load_config(name), config.preset_header(name))
