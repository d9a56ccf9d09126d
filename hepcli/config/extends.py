"""Presets that extend others: `extends = "fashion-mnist"`, and then only what differs."""

import copy
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hepcli.config.compare import flatten, overlap
from hepcli.config.presets import preset_text, presets_folder
from hepcli.config.toml_files import expanded, parse_tables, read_text
from hepcli.errors import ConfigError
from hepcli.settings import CHOOSERS, assigned

EXTENDS = "extends"


class Stated(NamedTuple):
    """What a preset states, its own values over those of the presets it extends.

    Attributes:
        name: name of the preset, or of the file without `.toml`.
        tables: nested tables, not validated yet.
        sources: dotted key to the `preset NAME`, `file X.toml` or `Python` that states it.
    """

    name: str
    tables: dict[str, object]
    sources: dict[str, str]


class _File(NamedTuple):
    """One preset by itself, shipped or a user's own."""

    label: str
    path: Path
    text: str
    tables: dict[str, object]


def read_stated(preset: str | Mapping[str, object]) -> Stated:
    """Read a preset and all that it extends, directly or through others.

    Tables are merged key by key. A key that is given takes the place of the base's key as a whole, be it
    a list or a table of its own: `network.layers`, whose order has a meaning, and the multipliers, which
    name connections of a network that may have changed.

    Args:
        preset: name of a shipped preset, path of a TOML file, or the tables themselves.

    Returns:
        The tables and the source of each of their values.

    Raises:
        ConfigError: a file is missing, unreadable or not TOML, `extends` is not a name, or the files
            extend each other in a circle.
    """
    chain = _chain(preset)
    stated = Stated(chain[0].path.stem, {}, {})
    for file in reversed(chain):
        own = {name: table for name, table in file.tables.items() if name != EXTENDS}
        _lay_over(stated, own, file.label)
    return stated


def preset_header(preset: str) -> str:
    """Return the comment lines that a preset's own file opens with; empty where it has none.

    Args:
        preset: name of a shipped preset, or path of a TOML file.

    Returns:
        The lines, joined by line breaks.

    Raises:
        ConfigError: there is no such preset, or it is not TOML.
    """
    lines = _read(preset, Path()).text.splitlines()
    return "\n".join(itertools.takewhile(lambda line: line.startswith("#"), lines))


def mark_source(sources: dict[str, str], key: str, value: object, source: str) -> None:
    """Record where a value came from, for its key and all keys inside it, in place of what was there.

    Args:
        sources: dotted key to source; changed.
        key: dotted key that takes the value.
        value: what it takes.
        source: where that came from.
    """
    for old in [old for old in sources if overlap(old, key)]:
        del sources[old]
    sources.update(dict.fromkeys(flatten({key: value}), source))


def drop_options(tables: Mapping[str, Any], sources: dict[str, str], settings: Mapping[str, Any]) -> None:
    """Drop the options of a component, such as `gradient.options`, where another is chosen in its place.

    Args:
        tables: nested tables as they are so far; changed.
        sources: dotted key to source of those tables; changed.
        settings: dotted keys that are about to be set, and their values.
    """
    for name, (key, _) in CHOOSERS.items():
        table, chosen = tables.get(name), settings.get(f"{name}.{key}")
        if isinstance(table, dict) and table.get("options") and chosen not in (None, table.get(key)):
            del table["options"]
            for old in [old for old in sources if overlap(old, f"{name}.options")]:
                del sources[old]


def _chain(preset: str | Mapping[str, object]) -> list[_File]:
    """Read a preset, its base, the base of that, and so on."""
    if isinstance(preset, str):
        chain = [_read(preset, Path())]
    else:
        chain = [_File("Python", Path("python.toml"), "", copy.deepcopy(dict(preset)))]
    while EXTENDS in chain[-1].tables:
        base = _base_of(chain[-1])
        seen = {file.path.resolve() for file in chain}
        chain.append(base)
        if base.path.resolve() in seen:
            circle = " extends ".join(file.label for file in chain)
            raise ConfigError(
                f"presets extend each other in a circle: {circle}", "Remove `extends` from one of them."
            )
    return chain


def _base_of(file: _File) -> _File:
    """Read what a preset extends."""
    base = file.tables[EXTENDS]
    place = f"{file.label}: {assigned(EXTENDS, base)}"
    if not isinstance(base, str) or not base.isprintable():
        raise ConfigError(
            f"{place}: must be a string: the name of a preset or the path of a TOML file",
            'Write extends = "fashion-mnist" or extends = "mine.toml", before the first table.',
        )
    try:
        return _read(base, file.path.parent)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error.what}", error.advice) from error


def _read(preset: str, beside: Path) -> _File:
    """Read a shipped preset, or a file whose path starts from the folder `beside`."""
    if is_path(preset):
        path = beside / expanded(preset)
        label, text = f"file {path}", read_text(path)
    else:
        path = Path(str(presets_folder())) / f"{preset}.toml"
        label, text = f"preset {preset}", preset_text(preset)
    return _File(label, path, text, parse_tables(text, label))


def is_path(preset: str) -> bool:
    """Whether a preset is named by a path instead of a name."""
    separators = [separator for separator in (os.sep, os.altsep) if separator]
    return preset.endswith(".toml") or any(separator in preset for separator in separators)


def _lay_over(stated: Stated, own: Mapping[str, object], label: str) -> None:
    """Put the tables of a file over those of its bases."""
    for name, table in own.items():
        base = stated.tables.get(name)
        if not isinstance(base, dict) or not isinstance(table, dict):
            stated.tables[name] = table
            mark_source(stated.sources, name, table, label)
            continue
        drop_options(stated.tables, stated.sources, flatten({name: table}))
        for key, value in table.items():
            base[key] = value
            mark_source(stated.sources, f"{name}.{key}", value, label)
