"""Resolved configurations as TOML, such as the config.toml of a run: every value and its source."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import Item

from hepcli.code import CODE_FOLDER, load_kept
from hepcli.config.compare import flatten
from hepcli.config.config import Config
from hepcli.config.load import ResolvedConfig, complete_sources, config_error, validate
from hepcli.config.sweep_files import SWEEP_FILE
from hepcli.config.toml_files import parse_tables, read_text
from hepcli.errors import ConfigError

CONFIG_FILE = "config.toml"

RUN_HEADER = "# Every value of this run, and where it came from."


def dump_config(resolved: ResolvedConfig, header: str = RUN_HEADER) -> str:
    """Write a configuration as TOML, one line for each value, its source behind it.

    Args:
        resolved: the configuration and its sources.
        header: comment lines to open with, or nothing.

    Returns:
        TOML that `parse_config` reads back to the same configuration, and `load_config` as a preset.
    """
    document = tomlkit.document()
    for name, values in resolved.config.model_dump(mode="json").items():
        table = tomlkit.table()
        for key, value in flatten(values).items():
            item: Item = tomlkit.inline_table() if value == {} else tomlkit.item(value)
            item.comment(_one_line(resolved.sources[f"{name}.{key}"]))
            table.add(tomlkit.key(key.split(".")), item)
        document.add(tomlkit.nl())
        document.add(name, table)
    return f"{header}\n{tomlkit.dumps(document)}".lstrip("\n")


def changed_config(text: str, changed: Mapping[str, object], sources: Mapping[str, str]) -> str:
    """A configuration that `dump_config` wrote, with other values for some of its keys.

    Args:
        text: the TOML.
        changed: dotted key to its new value.
        sources: dotted key to where that comes from.

    Returns:
        The TOML; all other values keep their sources.
    """
    document: Any = tomlkit.parse(text)
    for key, value in changed.items():
        name, _, rest = key.partition(".")
        item = tomlkit.item(value)
        item.comment(_one_line(sources[key]))
        document[name][rest] = item
    return tomlkit.dumps(document)


def parse_config(text: str, label: str) -> ResolvedConfig:
    """Read a configuration that `dump_config` wrote.

    Args:
        text: the TOML.
        label: where it lies; what to call it in errors, as the source of its values and as the preset's name.

    Returns:
        The configuration.

    Raises:
        CodeError: a file with own components is missing, has changed or fails.
        ConfigError: it is not TOML, or keys are unknown, missing or have values not allowed.
    """
    tables = parse_tables(text, label)
    code = tables.get("code")
    if isinstance(code, dict):
        load_kept(code, Path(label).parent / CODE_FOLDER, label)
    config, faults = validate(tables)
    if config is None:
        raise config_error(faults, label)
    return ResolvedConfig(config, complete_sources(config, dict.fromkeys(flatten(tables), label)), label)


def kept_code(folder: Path) -> dict[str, Any]:
    """The [code] table of a run, whose files need not be loaded; empty where there is none.

    Raises:
        ConfigError: its config.toml is missing or no TOML.
    """
    file = folder / CONFIG_FILE
    code = parse_tables(read_text(file), str(file)).get("code")
    return code if isinstance(code, dict) else {}


def read_config(path: Path) -> Config:
    """Read the configuration of a run.

    Args:
        path: the run folder, or the config.toml in it.

    Returns:
        The configuration.

    Raises:
        CodeError: a file with own components is missing, has changed or fails.
        ConfigError: the file is missing, damaged or not a configuration.
    """
    file = path if path.name == CONFIG_FILE else path / CONFIG_FILE
    if not file.is_file():
        is_sweep = (file.parent / SWEEP_FILE).is_file()
        raise ConfigError(
            f"{file.parent} contains no {CONFIG_FILE}, so it is not a run folder"
            + (", but one of a sweep." if is_sweep else "."),
            "Its runs are in the folder runs/ there; `hep sweep --report` shows all of them."
            if is_sweep
            else "Give the folder that `hep train` printed at the end.",
        )
    try:
        return parse_config(read_text(file), str(file)).config
    except ConfigError as error:
        advice = "Restore the file as it was when the run was started."
        if "must be one of" in error.what:
            advice += (
                " If that is a component of your own, registered from Python, register it first, or pass its "
                "file with --code."
            )
        raise ConfigError(error.what, advice) from error


def _one_line(source: str) -> str:
    """Keep a source inside its comment, whatever a file name holds."""
    return "".join(character if character.isprintable() else "?" for character in source)
