"""What is wrong with a setting, in words: one line for each key."""

import difflib
import json
from collections.abc import Iterable
from typing import NamedTuple


class Fault(NamedTuple):
    """One key that cannot stay as it is.

    Attributes:
        key: the dotted key, with its value where that helps: `run.epochs = 0`.
        message: what is allowed instead.
        is_about_key: whether it is the key that is wrong or missing, not its value.
    """

    key: str
    message: str
    is_about_key: bool = False

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


class Faults(ValueError):
    """Raised inside a pydantic validator, so that one check can report several keys.

    Args:
        faults: at least one fault, keys dotted from the root of the configuration.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(map(str, self.faults)))


def show(value: object) -> str:
    """Write a value as TOML would, cut to a length that fits a line."""
    if isinstance(value, float):
        return repr(value)
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def assigned(key: str, value: object) -> str:
    """Write `key = value`, the way a preset or --set states it."""
    return f"{key} = {show(value)}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?` for the nearest known name, or nothing when none is near."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
