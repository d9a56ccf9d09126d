"""TOML files, of presets and sweeps: read, or an error that says why not."""

import re
import tomllib
from pathlib import Path
from typing import Any

from hepcli.config.presets import DEFAULT_PRESET
from hepcli.errors import ConfigError


def read_text(path: Path) -> str:
    """Read a TOML file as text, or raise ConfigError saying why it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read {path}: it is not UTF-8 text", "Save it as UTF-8.") from error
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "there is no such file" if missing else error.strerror or "it cannot be opened"
        raise ConfigError(
            f"cannot read {path}: {reason}", "Check the path; `hep presets` lists the shipped presets."
        ) from error


def parse_tables(text: str, label: str) -> dict[str, Any]:
    """Read TOML.

    Args:
        text: the TOML.
        label: what to call it in an error.

    Returns:
        The tables as they stand.

    Raises:
        ConfigError: it is not TOML; the message names the line.
    """
    try:
        return tomllib.loads(text)
    except ValueError as error:
        message = str(error)
        place = re.search(r"\s*\(at (?:line (\d+), column \d+|end of document)\)", message)
        line = place[1] if place and place[1] else max(1, len(text.splitlines()))
        reason = message[: place.start()] if place else message
        raise ConfigError(
            f"{label} is not valid TOML: line {line}: {reason}",
            f"Correct that line; `hep presets {DEFAULT_PRESET}` shows a valid file.",
        ) from error
