"""Earlier measures, kept under other names where new ones of other settings take theirs."""

import itertools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hepcli.files import replacing
from hepcli.settings import HardwareSettings

_EXACT = asdict(HardwareSettings())  # what measures of earlier versions were made with


def set_aside(file: Path, result: dict[str, Any]) -> str | None:
    """Keep measures of other settings or steps, or what were none at all, under another name, and say so."""
    try:
        before = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        before = None
    differing = _differing(before, result)
    if differing == []:
        return None
    number = _free_number(file.parent)
    kept = file.with_name(f"{file.stem}.{number}.json")
    file.rename(kept)
    _set_figures_aside(kept, before, number)
    what = "was not written by hep measure-asymmetry"
    if differing is not None:
        what = f"holds measures made with different settings ({', '.join(differing)})"
    return f"{file} {what}; it is now {kept.name}."


def free_name(file: Path) -> Path:
    """A name like that of a JSON file, with a number that nothing beside it has."""
    return file.with_name(f"{file.stem}.{_free_number(file.parent)}.json")


def _free_number(folder: Path) -> int:
    return next(n for n in itertools.count(1) if not any(folder.glob(f"*.{n}.*")))


def _figures_of(record: Any) -> list[str]:
    """The names of the figures that measures are recorded with; none of what is no record of ours."""
    drawn = record.get("figures") if isinstance(record, dict) else None
    names = drawn if isinstance(drawn, list) else []
    return [name for name in names if isinstance(name, str) and Path(name).name == name]


def _set_figures_aside(kept: Path, before: Any, number: int) -> None:
    """Give the figures of measures that are kept their number, too: new ones take their names."""
    moved = []
    for name in _figures_of(before):
        stem, _, suffix = name.rpartition(".")
        if not kept.with_name(name).is_file():
            continue
        for end in (suffix, "figure.json"):
            if (old := kept.with_name(f"{stem}.{end}")).is_file():
                old.rename(kept.with_name(f"{stem}.{number}.{end}"))
        moved.append(f"{stem}.{number}.{suffix}")
    if moved:
        with replacing(kept) as temporary:
            temporary.write_text(json.dumps(before | {"figures": moved}, indent=2) + "\n")


def _differing(before: Any, result: dict[str, Any]) -> list[str] | None:
    """In what a file of measures differs from new ones; None where it is none."""
    steps = before.get("steps", [before]) if isinstance(before, dict) else None
    if not isinstance(steps, list) or not steps or not isinstance(steps[0], dict):
        return None
    own = json.loads(json.dumps(result.get("steps", [result])))  # tuples are lists in the file
    if ("steps" in before) != ("steps" in result) or len(steps) > len(own):
        return ["steps"]
    keys, absent = ("step", "split", "examples", "relaxation", "gradient", "hardware"), {"hardware": _EXACT}
    differing = [key for key in keys if steps[0].get(key, absent.get(key)) != own[0][key]]
    hashes = {one.get("config_hash", own[0]["config_hash"]) for one in (steps[0], own[0])}
    return differing or (["configuration"] if len(hashes) > 1 else [])
