"""What `hep sweep` takes as options instead of a file: --vary, --search, --seeds, --shard."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from hepcli.config.load import read_value
from hepcli.errors import ConfigError
from hepcli.settings import assigned, show

_VARY = "Write --vary KEY=V1,V2 or, to set keys together, --vary KEY1:KEY2=V1:W1,V2:W2."
_SEARCH = "Write --search trials=30,sampler=tpe,pruner=median."
_RANGE = re.compile(r"(?P<low>[-+0-9.eE]*[0-9])\.\.(?P<high>[-+0-9.eE]+)(?P<log>:log)?")
_OPENING, _CLOSING = "[{(", "]})"


def parse_vary(text: str) -> dict[str, Any]:
    """Read one --vary into a table of [[axis]].

    Args:
        text: `key=v1,v2`, or `key1:key2=v1:w1,v2:w2` for an axis that sets keys together. A comma or
            colon inside quotes or brackets separates nothing. `key=low..high` and `key=low..high:log` are
            ranges, of whole numbers where both ends are; the caller knows better where the key holds reals.

    Returns:
        The axis as TOML would give it; it may still be refused by `check_sweep`.

    Raises:
        ConfigError: it is not of that form.
    """
    left, equals, right = text.partition("=")
    keys = [key.strip() for key in left.split(":")]
    if not equals or not all(all(key.split(".")) for key in keys):
        raise ConfigError(f"--vary {text}: must be KEY=V1,V2,…", _VARY)
    places = split_outside(right, ",") if right.strip() else []
    if not places:
        raise ConfigError(f"--vary {text}: the axis is empty.", _VARY)
    if "" in places:
        raise ConfigError(f"--vary {text}: one of its values is missing.", _VARY)
    name = ":".join(key.rpartition(".")[2] for key in keys)
    if len(keys) == 1 and len(places) == 1 and (ends := _RANGE.fullmatch(places[0])):
        low, high = (_number(ends[part]) for part in ("low", "high"))
        integer = isinstance(low, int) and isinstance(high, int)
        return {
            "name": name, "key": keys[0], "low": low, "high": high,
            "integer": integer, "log": ends["log"] is not None,
        }  # fmt: skip
    if len(keys) == 1:
        return {"name": name, "key": keys[0], "values": [read_value(place) for place in places]}
    points = []
    for place in places:
        values = split_outside(place, ":")
        if len(values) != len(keys):
            raise ConfigError(f"--vary {text}: {place} must give {len(keys)} values, one per key.", _VARY)
        settings = {key: read_value(value) for key, value in zip(keys, values, strict=True)}
        points.append({"label": place, "set": settings})
    return {"name": name, "points": points}


def _number(text: str) -> object:
    """An end of a range, also as TOML does not write numbers, such as .001; else the text."""
    value = read_value(text)
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value


def tell_apart(axes: Sequence[dict[str, Any]]) -> None:
    """Name axes by their whole keys where the last parts of these are the same."""
    names = Counter(axis["name"] for axis in axes)
    for axis in axes:
        if names[axis["name"]] > 1:
            keys = [axis["key"]] if "key" in axis else axis["points"][0]["set"]
            axis["name"] = ":".join(keys)


def take_over(tables: dict[str, Any], settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Let settings from the command line override those of grids, and of axes that set several keys.

    An axis that varies nothing else keeps its keys, so that `check_sweep` refuses what is set in vain.

    Args:
        tables: of a sweep; its grids and the points of its axes lose the keys.
        settings: dotted keys from the command line.

    Returns:
        A line for each key that was taken from an axis or a grid.
    """
    notes = []
    of_grids = [grid.get("set") or {} for grid in tables.get("grid") or ()]
    for key in settings:
        if given := [own.pop(key) for own in of_grids if key in own]:
            instead = ", ".join(dict.fromkeys(map(show, given)))
            notes.append(f"{assigned(key, settings[key])} is used in every grid, overriding {instead}.")
    for axis in [*tables["axis"], *(axis for grid in tables.get("grid") or () for axis in grid["axis"])]:
        points = axis.get("points") or ()
        for key in settings:
            sets = [point.setdefault("set", {}) for point in points]
            given = [own[key] for own in sets if key in own]
            left = [
                (point.get("preset"), {name: value for name, value in own.items() if name != key})
                for point, own in zip(points, sets, strict=True)
            ]
            if given and all(left.count(own) == 1 for own in left):
                for own in sets:
                    own.pop(key, None)
                instead = ", ".join(dict.fromkeys(map(show, given)))
                notes.append(
                    f"{assigned(key, settings[key])} is used at every point, overriding {instead} from "
                    f"axis {axis['name']}."
                )
    return tuple(notes)


def parse_search(text: str) -> dict[str, Any]:
    """Read --search: entries of the [search] table.

    Args:
        text: `trials=30,sampler=random`.

    Returns:
        The entries; they may still be refused by `check_sweep`.

    Raises:
        ConfigError: it is not of that form.
    """
    entries: dict[str, Any] = {}
    for part in split_outside(text, ","):
        key, equals, value = (word.strip() for word in part.partition("="))
        if not key or not equals or not value or key in entries:
            fault = "is given twice" if key in entries else "is not KEY=VALUE"
            raise ConfigError(f"--search {text}: {part or 'an empty part'} {fault}.", _SEARCH)
        entries[key] = read_value(value)
    return entries


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read seeds: numbers and ranges, such as 0-4 or 0,2,5-7.

    Args:
        text: the option's text.

    Returns:
        The seeds in the order given.

    Raises:
        ConfigError: it is not of that form.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,10})(?:-(\d{1,10}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first or last - first >= 10_000:
            raise ConfigError(f"--seeds {text}: must be numbers and ranges.", "Write --seeds 0-4 or 0,2,5-7.")
        seeds += range(first, last + 1)
    return tuple(seeds)


def parse_shard(text: str) -> tuple[int, int]:
    """Read a shard, 0/4 to 3/4: every fourth point from the first, second, … on.

    Args:
        text: the option's text.

    Returns:
        Index and number of shards.

    Raises:
        ConfigError: it is not of that form, or there is no shard of that index.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    if match is None or int(match[1]) >= int(match[2]):
        raise ConfigError(
            f"--shard {text}: must be I/N, with I from 0 to N − 1.",
            "Write --shard 0/4, 1/4, 2/4 and 3/4 for four shards.",
        )
    return int(match[1]), int(match[2])


def split_outside(text: str, separator: str) -> list[str]:
    """Split where the separator stands outside quotes and brackets."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        else:
            depth += (character in _OPENING) - (character in _CLOSING)
            if character == separator and depth == 0:
                parts.append("")
                continue
        parts[-1] += character
    return [part.strip() for part in parts]
