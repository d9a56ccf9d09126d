"""Damage to what lies in a run or sweep folder, before each command that reads one.

Accepted are an error that names what is damaged, the result of the undamaged folder, and a result with a
notice that names what was not taken. Another number without a word is a fault.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from .commands import Done, FaultError, require
from .workshop import EPOCHS, Workshop, timeless


class Reader(NamedTuple):
    """A command that reads a folder.

    Attributes:
        original: what it reads, of the workshop.
        other: what is swapped with it.
        argv: its arguments for the folder.
        result: what is compared, from the folder and what the command printed.
        weight: how often it is chosen.
    """

    original: str
    other: str
    argv: Callable[[Path], list[object]]
    result: Callable[[Path, Done], Any]
    weight: int


def _printed(_: Path, done: Done) -> Any:
    return timeless(json.loads(done.output))


def _trained(out: Path, _: Done) -> Any:
    """The records and, of the last step, the digest of each array."""
    last = json.loads((out / "checkpoints" / str(10 * EPOCHS) / "manifest.json").read_text())
    digests = {name: leaf.get("sha256") for name, leaf in last["leaves"].items()}
    return (
        (out / "metrics.jsonl").read_text(),
        digests,
        timeless(json.loads((out / "summary.json").read_text())),
    )


def _readers(shop: Workshop) -> dict[str, Reader]:
    resume = lambda run: ["train", "--resume", "--quiet", "--out", run]  # noqa: E731
    evaluate = lambda run: ["eval", run, "--json"]  # noqa: E731
    step = lambda run: ["eval", run / "checkpoints", "--step", 10 * EPOCHS, "--json"]  # noqa: E731
    measure = lambda run: ["measure-asymmetry", run, "--examples", 2, "--json", "--quiet"]  # noqa: E731
    report = lambda out: ["sweep", "--report", out, "--json"]  # noqa: E731
    sweep = lambda out: [*shop.sweep(out), "--json"]  # noqa: E731
    return {
        "resume": Reader("half", "other", resume, _trained, 5),
        "resume a finished run": Reader("whole", "other", resume, _trained, 2),
        "eval": Reader("whole", "other", evaluate, _printed, 5),
        "eval --step": Reader("whole", "other", step, _printed, 2),
        "measure": Reader("whole", "other", measure, _printed, 2),
        "measure --all-steps": Reader(
            "whole", "other", lambda run: [*measure(run), "--all-steps"], _printed, 1
        ),
        "report of a sweep": Reader("swept", "other_swept", report, _printed, 4),
        "report of runs": Reader("both", "other_both", report, _printed, 3),
        "sweep again": Reader("swept", "other_swept", sweep, _printed, 2),
        "sweep --resume": Reader(
            "half_swept", "other_swept", lambda out: [*sweep(out), "--resume"], _printed, 2
        ),
    }


def trial(shop: Workshop, random: Random, folder: Path) -> str:
    """Damage one file, give one command, and judge what it says."""
    readers = _readers(shop)
    name = random.choices(list(readers), [reader.weight for reader in readers.values()])[0]
    reader = readers[name]
    whole = shop.of_whole(name, lambda: _undamaged(shop, reader, folder / "undamaged" / "of" / "copy"))
    here = shop.copy(reader.original, folder / "copy")
    part = _part(here, random)
    what = _harm(here, part, getattr(shop, reader.other), random)
    try:
        verdict = _judge(here, part, reader, shop.commands.hep(*reader.argv(here)), whole)
    except FaultError as fault:
        raise FaultError(f"{name} after {what}: {fault}") from fault
    return verdict


class Whole(NamedTuple):
    """What a command comes to where nothing is damaged, and the lines that it says then anyway."""

    result: Any
    says: frozenset[str]


def _undamaged(shop: Workshop, reader: Reader, folder: Path) -> Whole:
    folder.parent.mkdir(parents=True)
    here = shop.copy(reader.original, folder)
    done = shop.commands.succeed(*reader.argv(here))
    return Whole(reader.result(here, done), frozenset(_lines(here, done)))


def _lines(here: Path, done: Done) -> list[str]:
    """What was said on stderr, wherever the folder lies."""
    return [line.replace(str(here), "HERE") for line in done.errors.splitlines()]


def _judge(here: Path, part: Path, reader: Reader, done: Done, whole: Whole) -> str:
    """The outcome in words.

    Raises:
        FaultError: it is not accepted.
    """
    names = _names(here, part)
    news = "\n".join(line for line in _lines(here, done) if line not in whole.says)
    is_named = any(name in news for name in names)
    says = done.errors.strip()[-600:]
    if done.status != 0:
        require(done.status == 1 and "error: " in done.errors, f"status {done.status}: {says}")
        require(is_named, f"an error that names none of {names}: {says}")
        return "an error"
    result = reader.result(here, done)
    require(result == whole.result or is_named, f"silently wrong: {says}")
    return "the same" if result == whole.result else "a notice"


def _names(here: Path, part: Path) -> list[str]:
    """What names a part of a folder: the folder, its path from there, or its step."""
    parts = ["HERE"] if part.name.isdecimal() else ["HERE", part.name]
    if found := re.search(r"checkpoints/(\d+)", str(part)):
        parts.append(f"tep {found[1]}")
    return parts


def _part(here: Path, random: Random) -> Path:
    """A file, chosen among the kinds of files first: a checkpoint has a dozen, config.toml is one."""
    kinds: dict[str, list[Path]] = {}
    for file in sorted(file for file in here.rglob("*") if file.is_file()):
        is_output = file.suffix in (".png", ".log", ".csv", ".md") or file.name.endswith(".figure.json")
        if not is_output and file.name != ".lock":
            kinds.setdefault("state" if "state" in file.parts else file.name, []).append(file)
    return random.choice(kinds[random.choice(sorted(kinds))])


def _harm(here: Path, part: Path, other: Path, random: Random) -> str:
    """Harm a file or the step it belongs to; says how, for whoever repeats it."""
    how = random.choice(["bit", "digit", "digit", "truncated", "zeroed", "removed", "swapped", "swapped"])
    step = next((parent for parent in part.parents if parent.parent.name == "checkpoints"), None)
    if how in ("removed", "swapped") and step is not None and random.random() < 0.5:
        part = step
    place = part.relative_to(here)
    if how == "swapped":
        return f"{place} swapped with that of {_swap(part, place, other)}"
    if how == "removed":
        (shutil.rmtree if part.is_dir() else Path.unlink)(part)
        return f"{place} removed"
    content = part.read_bytes()
    changed, where = _changed(how, content, random)
    part.write_bytes(changed)
    return f"{place} ({len(content)} bytes), {how} {where}"


def _swap(part: Path, place: Path, other: Path) -> str:
    """Take the same file or step of the other folder, or else the first that lies in such a place."""
    like = [path for path in sorted(other.rglob("*")) if path.is_dir() == part.is_dir()]
    named = [path for path in like if path.name == part.name]
    beside = [path for path in like if path.parent.name == part.parent.name]
    same = other / place if (other / place).exists() else [*named, *beside, *like][0]
    if part.is_dir():
        shutil.rmtree(part)
        shutil.copytree(same, part)
    else:
        shutil.copyfile(same, part)
    return str(same)


def _changed(how: str, content: bytes, random: Random) -> tuple[bytes, str]:
    """The content after a flip of a bit, another digit, a cut or zeros; and where."""
    data = bytearray(content) or bytearray(b"0")
    first = random.randrange(len(data))
    last = min(len(data), first + random.choice([1, 16, len(data)]))
    digits = [index for index, byte in enumerate(data) if chr(byte) in "0123456789"]
    if how == "truncated":
        return bytes(data[: random.choice([0, first])]), f"at {first}"
    if how == "zeroed":
        data[first:last] = bytes(last - first)
        return bytes(data), f"from {first} to {last}"
    if how == "digit" and digits:
        first = random.choice(digits)
        data[first] = ord(random.choice([digit for digit in "123456789" if ord(digit) != data[first]]))
        return bytes(data), f"at {first}: {_around(content, first)} -> {_around(bytes(data), first)}"
    data[first] ^= 1 << random.randrange(8)
    return bytes(data), f"at {first}: {_around(content, first)} -> {_around(bytes(data), first)}"


def _around(content: bytes, place: int) -> str:
    return repr(content[max(0, place - 20) : place + 8])
