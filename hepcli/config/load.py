"""Resolve a configuration: default < base of a preset < preset < flag, all errors at once."""

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

from pydantic import ValidationError

from hepcli.code import CODE_FOLDER, load_kept
from hepcli.config.compare import flatten, overlap
from hepcli.config.config import Config
from hepcli.config.extends import EXTENDS, drop_options, is_path, mark_source, read_stated
from hepcli.config.faults import describe, undecodable
from hepcli.config.new_runs import new_run_faults
from hepcli.config.presets import DEFAULT_PRESET
from hepcli.config.rules import MULTIPLIERS, multiplier_faults, multiplier_names
from hepcli.config.toml_files import expanded, load_flat
from hepcli.errors import ConfigError
from hepcli.settings import LAYERS, Fault, KernelSettings, assigned, layer_kind

SEE_KEYS = f"Run `hep presets {DEFAULT_PRESET}` to see the keys and values of a preset."

_FLAG = "flag"
_DEFAULT = "default"
_CORRECT = (
    "Correct the value, or leave it out; a value that you did not set comes from the preset (see "
    "`hep presets NAME`)."
)


class ResolvedConfig(NamedTuple):
    """A configuration and where each of its values came from.

    Attributes:
        config: the configuration.
        sources: dotted key to where its value came from: `default`, `preset NAME`, `file X.toml`, `Python`
            (tables) or `flag`; after `parse_config`, its label.
        preset: name of the preset, or of the file without `.toml`.
    """

    config: Config
    sources: Mapping[str, str]
    preset: str


def load_config(
    preset: str | Mapping[str, object] | None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
    *,
    is_new: bool = True,
) -> ResolvedConfig:
    """Resolve a preset with what the command line sets.

    Args:
        preset: name of a shipped preset, path of a TOML file, or its tables; None is `quickstart`.
        overrides: `dotted.key=value` texts of --set; the last one wins where two set a key.
        flags: dotted key to the value of an option of its own, such as --seed; None is not given.
        is_new: whether it is for a new run. For an existing one, only what is set here is checked against the
            rules for new runs.

    Returns:
        The configuration with the source of every value.

    Raises:
        CodeError: a file with own components is missing, has changed or fails.
        ConfigError: the preset is missing or no TOML; or keys are unknown, missing or have values that are
            not allowed, all of which it names.
    """
    resolved, faults = try_config(preset, overrides, flags, is_new=is_new)
    if resolved is None:
        raise config_error(faults)
    return resolved


def try_config(
    preset: str | Mapping[str, object] | None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
    *,
    is_new: bool = True,
) -> tuple[ResolvedConfig | None, list[Fault]]:
    """Resolve as `load_config` does, but return the configuration or None, and every fault.

    Raises:
        CodeError: as `load_config`.
        ConfigError: the preset itself cannot be read.
    """
    name, tables, sources = read_stated(DEFAULT_PRESET if preset is None else preset)
    settings, faults = read_settings(overrides, flags or {})
    before = copy.deepcopy(tables)
    drop_options(tables, sources, flatten(settings))
    for key, value in settings.items():
        if fault := _assign(tables, key, value):
            faults.append(fault)
        else:
            mark_source(sources, key, value, _FLAG)
    _load_code(tables, preset)
    config, result = validate(tables)
    faults.extend(result)
    old = None if is_new else validate(before)[0]
    if config is not None:
        known = [] if old is None else new_run_faults(old)
        faults.extend(fault for fault in new_run_faults(config) if fault not in known)
    if config is None or faults:
        return None, faults
    return ResolvedConfig(config, complete_sources(config, sources), name), []


def _load_code(tables: Mapping[str, Any], preset: object) -> None:
    """Load the own components that tables name, of a run's config.toml from the copies beside it."""
    code = tables.get("code")
    if isinstance(code, Mapping) and code.get("files"):
        is_file = isinstance(preset, str) and is_path(preset)
        folder = expanded(str(preset)).parent / CODE_FOLDER if is_file else None
        load_kept(code, folder, str(preset) if is_file else "the configuration")


def validate(tables: Mapping[str, Any]) -> tuple[Config | None, list[Fault]]:
    """Check tables against the models.

    Args:
        tables: nested tables as TOML gives them.

    Returns:
        The configuration and no faults, or None and every fault.
    """
    # A missing table is checked as an empty one, so that errors name the keys it must hold.
    full = {name: {} for name in Config.model_fields} | dict(tables)
    if faults := list(undecodable(full)):
        return None, faults
    try:
        return Config.model_validate_json(_to_json(full)), []
    except ValidationError as error:
        faults = describe(error, full, known_keys(full))
        across_ran = any(not detail["loc"] for detail in error.errors())
    return None, faults if across_ran else [*faults, *_across_tables(full)]


def known_keys(tables: Mapping[str, Any]) -> list[str]:
    """List every dotted key that may be set, with those of the layers that `tables` name."""
    keys = [] if EXTENDS in tables else [EXTENDS]  # wrong where it is given: no hint to itself
    for table_name, table in Config.model_fields.items():
        if is_dataclass(table.annotation):
            keys += [table_name, *(f"{table_name}.{key.name}" for key in fields(table.annotation))]
    network = tables.get("network")
    layers = network.get("layers") if isinstance(network, dict) else None
    for name, layer in layers.items() if isinstance(layers, dict) else ():
        settings = LAYERS.get(str(layer_kind(layer)), LAYERS["dense"])
        keys += [f"network.layers.{name}.{key.name}" for key in fields(settings)]
    kernels = network.get("kernels") if isinstance(network, dict) else None
    for name in kernels if isinstance(kernels, dict) else ():
        keys += [f"network.kernels.{name}.{key}" for key in KernelSettings.__annotations__]
    return keys


def complete_sources(config: Config, given: Mapping[str, str]) -> dict[str, str]:
    """Give every key of a configuration its source; what nobody gave is a default."""
    return {key: given.get(key, _DEFAULT) for key in flatten(config.model_dump(mode="json"))}


def config_error(faults: Sequence[Fault], label: str = "") -> ConfigError:
    """Make one error of all faults, one to a line.

    Args:
        faults: at least one fault.
        label: what they were found in, where the reader may not know.

    Returns:
        The error to raise.
    """
    prefix = f"{label}: " if label else ""
    advice = SEE_KEYS if any(fault.is_about_key for fault in faults) else _CORRECT
    if len(faults) == 1:
        return ConfigError(f"{prefix}{faults[0]}", advice)
    lines = "".join(f"\n  {fault}" for fault in faults)
    return ConfigError(f"{prefix}{len(faults)} settings are not allowed:{lines}", advice)


def read_settings(
    overrides: Iterable[str], flags: Mapping[str, object]
) -> tuple[dict[str, object], list[Fault]]:
    """Read --set texts and flags into dotted keys and values, with every fault found."""
    settings: dict[str, object] = {}
    faults: list[Fault] = []
    for argument in overrides:
        # A shell may pass bytes that are no text; they become "?" and are refused like any wrong value.
        override = argument.encode("utf-8", "replace").decode()
        key, equals, text = override.partition("=")
        key = key.strip()
        if not equals:
            faults.append(Fault(f"--set {override}", "must be KEY=VALUE, such as run.epochs=5", True))
        elif not all(key.split(".")):
            faults.append(Fault(f"--set {override}", "must name a key, such as run.epochs", True))
        else:
            if inside := [own for own in settings if own.startswith(f"{key}.")]:
                faults.append(Fault(f"--set {key}", f"would undo --set {inside[0]}, which came before", True))
            settings.pop(key, None)  # the last --set of a key also comes last in order
            settings[key] = read_value(text)
    given = {key: value for key, value in flags.items() if value is not None}
    for key in given:
        for rival in [rival for rival in settings if overlap(key, rival)]:
            option = f"--{key.rpartition('.')[2].replace('_', '-')}"
            faults.append(Fault(key, f"set by both {option} and --set {rival}; give one of them"))
    return settings | given, faults


def read_value(text: str) -> object:
    """Read a value as TOML, else as text; what is nested too deeply is no value of any key."""
    try:
        tables = load_flat(f"value = {text}")
    except ValueError:
        return text
    # Text with a line break could otherwise smuggle in further keys.
    return tables["value"] if len(tables) == 1 else text


def _assign(tables: dict[str, Any], key: str, value: object) -> Fault | None:
    """Set a dotted key, making tables on the way; refuse to look inside a plain value."""
    if key == EXTENDS:
        return Fault(assigned(key, value), "works only inside a preset file; choose the base with --preset")
    *path, name = key.split(".")
    here = tables
    for depth, part in enumerate(path, start=1):
        inner = here.setdefault(part, {})
        if not isinstance(inner, dict):
            outer = ".".join(path[:depth])
            return Fault(assigned(key, value), f"{outer} is a value, not a table", True)
        here = inner
    if not path and isinstance(value, dict) and isinstance(here.get(name), dict):
        here[name] |= copy.deepcopy(value)  # key by key, as `extends` does
    else:
        here[name] = copy.deepcopy(value)
    return None


def _across_tables(tables: Mapping[str, Any]) -> list[Fault]:
    """Run on raw tables the check that pydantic skips when some other key is wrong."""
    network, optimizer = tables["network"], tables["optimizer"]
    if not isinstance(network, dict) or not isinstance(optimizer, dict):
        return []
    connections = network.get("connections")
    if not isinstance(connections, list):
        return []
    by_key = {key: optimizer[key] for key in MULTIPLIERS if isinstance(optimizer.get(key), dict)}
    names = multiplier_names(map(str, connections), network.get("readout") is not False)
    return multiplier_faults(by_key, names)


def _to_json(tables: object) -> str:
    # From JSON, strict models take a list for a tuple, which they refuse from Python objects.
    return json.dumps(tables, default=str)
