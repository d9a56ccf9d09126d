"""TOML files, of presets and sweeps: read, or an error that says why not."""

import itertools
import re
import tomllib
from pathlib import Path
from typing import Any

from hepcli.config.presets import DEFAULT_PRESET
from hepcli.errors import ConfigError

_MOST_NESTED = 32
_MOST_BITS = 10_000  # of integers: Python writes none of more than 4,300 digits as text
_TOO_DEEP = f"it is nested more than {_MOST_NESTED} levels deep"


def expanded(text: str) -> Path:
    """A path as a user writes it, with ~ for a home; raises ConfigError where there is no such home."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"cannot read {text}: {error}", "Write the path in full.") from error


def read_text(path: Path) -> str:
    """Read a TOML file as text, or raise ConfigError saying why it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read {path}: it is not UTF-8 text", "Save it as UTF-8.") from error
    except ValueError as error:  # a null byte in its name
        raise ConfigError(f"cannot read {str(path)!r}: {error}", "Correct the path.") from error
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "there is no such file" if missing else error.strerror or "it cannot be opened"
        raise ConfigError(
            f"cannot read {path}: {reason}", "Check the path; `hep presets` lists the shipped presets."
        ) from error


def load_flat(text: str) -> dict[str, Any]:
    """Read TOML that is nested no deeper than any setting is: what handles it afterwards may recurse.

    Raises:
        ValueError: it is not TOML, nested deeper, or holds what no text or path can show.
    """
    try:
        tables = tomllib.loads(text)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    level: list[Any] = [tables]
    for _ in range(_MOST_NESTED):
        inner = [
            one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)
        ]
        level = list(itertools.chain.from_iterable(inner))
        if any(isinstance(one, int) and one.bit_length() > _MOST_BITS for one in level):
            raise ValueError("an integer has too many digits")
        if any(isinstance(one, str) and "\0" in one for one in level):
            raise ValueError("a string contains a null byte")
    if level:
        raise ValueError(_TOO_DEEP)
    return tables


def parse_tables(text: str, label: str, example: str = DEFAULT_PRESET) -> dict[str, Any]:
    """Read TOML.

    Args:
        text: the TOML.
        label: what to call it in an error.
        example: what `hep presets` shows as one of its kind.

    Returns:
        The tables as they stand.

    Raises:
        ConfigError: it is not TOML; the message names the line.
    """
    try:
        return load_flat(text)
    except ValueError as error:
        message = str(error)
        place = re.search(r"\s*\(at (?:line (\d+), column \d+|end of document)\)", message)
        line = place[1] if place and place[1] else max(1, len(text.splitlines()))
        reason = message[: place.start()] if place else message
        raise ConfigError(
            f"{label} is not valid TOML: line {line}: {reason}",
            f"Correct that line; `hep presets {example}` shows a valid file.",
        ) from error
