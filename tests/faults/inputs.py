"""Bad input, from a seeded grammar: options, keys and values, presets and sweeps, archives.

Accepted are words that name what is wrong, with an exit status that is not 0, and a valid result.
"""

import gzip
import json
import math
import os
import re
import struct
import tomllib
from pathlib import Path
from random import Random
from typing import Any

from hepcli.config import flatten, load_config, preset_text

from .commands import Done, require
from .workshop import SMALL, Workshop

VALUES = (
    *("", " ", "nan", "-nan", "inf", "-inf", "1e400", "-1e400", "-1", "0", "-0.0", "1e-320", "1" * 40),
    *("true", "[]", "{}", "[1, 2]", "[[[]]]", "[nan]", "{a=1}", "{a={b={c=[1]}}}", '"text"', "text", "None"),
    *("é", "日本語", "\u202e", "🦆", "'", '"', "\\", "a=b", "=", "1979-05-27", "0x10", "1_000", "1,2"),
    *("\n[run]\nepochs = 1", "\udcff", "/dev/null", "/", "..", "--help", "%s", "{0}", "$HOME", "*"),
    *("9" * 400, "…" * 3000, "[" * 2000),
)
OPTIONS = {
    "train": ("--seed", "--epochs", "--preset", "--set", "--resume", "--nonsense"),
    "eval": ("--step", "--split", "--set", "--nonsense", "CHECKPOINT"),
    "measure-asymmetry": ("--step", "--examples", "--split", "--set", "--preset", "CHECKPOINT"),
    "sweep": ("--vary", "--seeds", "--jobs", "--shard", "--preset", "--epochs", "--set", "--value"),
    "presets": ("NAME",),
    "data": ("list", "prepare", "import", "nonsense"),
}
ARCHIVES = Path(os.environ.get("HEP_FAULTS_ARCHIVES", "nowhere"))  # those of Fashion-MNIST, if at hand


def trial(shop: Workshop, random: Random, folder: Path) -> str:
    """Give one bad input."""
    form = random.choices([_setting, _option, _preset_file, _sweep_file, _archive], [6, 4, 3, 2, 1])[0]
    return f"{form.__name__.strip('_')} {form(shop, random, folder)}"


def _answer(done: Done, *things: str) -> str:
    """Require words that name one of the things, or success; says which."""
    require(done.status in (0, 1, 2), f"{done.line[:300]}: status {done.status}: {done.errors[-600:]}")
    if done.status == 0:
        return "accepted"
    bare = re.sub(r"[\s│╭╮╰╯─]+", "", done.errors)
    names = ["".join(thing.split())[:12] for thing in things]
    names = [name.encode("utf-8", "replace").decode() for name in names if name]
    require(
        not names or any(name in bare for name in names),
        f"{done.line[:300]}: names none of {names}: {done.errors[-600:]}",
    )
    return "refused"


def _plain(value: Any) -> bool:
    """Whether all of a record's numbers are finite."""
    if isinstance(value, dict | list):
        return all(map(_plain, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def _keys() -> dict[str, Any]:
    return flatten(load_config("quickstart").config.model_dump(mode="json"))


def _key(random: Random) -> str:
    key = random.choice(sorted(_keys()))
    cut = random.randrange(len(key))
    strange = [
        *(key[:cut] + key[cut + 1 :], key.upper(), f"{key}.x", f".{key}", f"{key}.", key.split(".")[0], ""),
        *(
            "__class__",
            "run.__init__",
            "network.layers",
            "network.layers.l9.units",
            "é.ü",
            "extends",
            "a" * 999,
        ),
    ]
    return random.choice([key] * len(strange) + strange)


def _must_be_refused(key: str, text: str) -> bool:
    """Whether a key is unknown, or a value of another type than the key's, or no number."""
    before = _keys().get(key)
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text
    if key not in _keys():
        return key not in ("network.layers", *(name.split(".")[0] for name in _keys())) or not isinstance(
            value, dict
        )
    if not _plain(value):
        return True
    if isinstance(before, bool) or isinstance(value, bool):
        return not (isinstance(before, bool) and isinstance(value, bool))
    numbers = isinstance(before, int | float) and isinstance(value, int | float)
    return not numbers and type(value) is not type(before)


def _setting(shop: Workshop, random: Random, folder: Path) -> str:
    key, value = _key(random), random.choice(VALUES)
    if random.random() < 0.5 and (number := _keys().get(key)) is not None and not isinstance(number, list):
        wrapped = (f"{number}", f"1{number}", f"{number}x", f"-{number}", f"{number}e9")
        value = random.choice([*wrapped, f"[{number}]", f'"{number}"', f"{{a={number}}}"])
    argv = ["sweep", "--preset", "quickstart", "--vary", "run.measure_examples=0", "--dry-run", "--json"]
    done = shop.commands.hep(*argv, "--set", f"{key}={value}")
    answer = _answer(done, key, key.partition(".")[0], value, "--set")
    if answer == "accepted":
        require(not _must_be_refused(key, value), f"{done.line[:300]}: accepted")
        require(_plain(json.loads(done.output)), f"{done.line[:300]}: numbers that are not finite")
    return answer


def _option(shop: Workshop, random: Random, folder: Path) -> str:
    command = random.choice(sorted(OPTIONS))
    option, value = random.choice(OPTIONS[command]), random.choice(VALUES)
    words: list[object] = [value] if option.isupper() else [option, value]
    rest: list[object] = {
        "train": [*SMALL, "--quiet", "--out", folder / "out", "--json"],
        "eval": ["--json"],
        "measure-asymmetry": ["--json", "--quiet", "--out", folder / "out"],
        "sweep": ["--dry-run", "--json"],
        "data": ["--data-dir", folder / "data"],
    }.get(command, [])
    if command in ("eval", "measure-asymmetry") and option not in ("CHECKPOINT", "--preset"):
        rest = [shop.whole, *rest]
    if command == "train" and option != "--epochs":
        rest += ["--epochs", "1"]
    if command == "sweep" and option != "--preset":
        rest += ["--preset", "quickstart"]
    done = shop.commands.hep(command, *words, *rest)
    answer = _answer(done, option, option.strip("-"), value, "Missing")
    if answer == "accepted" and "--json" in rest and "--help" not in words:
        require(_plain(json.loads(done.output)), f"{done.line[:300]}: numbers that are not finite")
    return answer


def _mutated(text: str, random: Random) -> bytes:
    """A TOML file with a line or two harmed."""
    lines = text.splitlines()
    for _ in range(random.choice([1, 1, 1, 2])):
        index = random.choice(
            [index for index, line in enumerate(lines) if line and not line.startswith("#")] or [0]
        )
        key, equals, _ = lines[index].partition("=")
        match random.randrange(7):
            case 0:
                lines[index] = f"{key}= {random.choice(VALUES)}" if equals else random.choice(VALUES)
            case 1:
                del lines[index]
            case 2:
                lines.insert(index, lines[index])
            case 3:
                lines[index] = f"{_key(random)} = {random.choice(VALUES)}"
            case 4:
                place = random.randrange(len(lines[index]))
                lines[index] = (
                    lines[index][:place] + random.choice("[]{}=\"'.#,\\é\0\t") + lines[index][place + 1 :]
                )
            case 5:
                lines.append(
                    random.choice(["[run]", "[nonsense]", "[[axis]]", "[sweep]", "extends = 3", "[a.b.c]"])
                )
            case 6:
                lines.insert(
                    0, f'extends = "{random.choice(["mine.toml", "cifar10", "nonsense", "", "/", "."])}"'
                )
    data = "\n".join(lines).encode("utf-8", "surrogateescape")
    tail = random.choice([b""] * 6 + [b"\xff\xfe", b"\0", b"\r"])
    head = random.choice([b""] * 6 + [b"\xef\xbb\xbf", b"\xff\xfe"])
    return head + data[: random.choice([len(data)] * 4 + [random.randrange(len(data))])] + tail


def _preset_file(shop: Workshop, random: Random, folder: Path) -> str:
    file = folder / "mine.toml"
    original = preset_text(random.choice(["quickstart", "fashion-mnist", "fashion-mnist-loop", "cifar10"]))
    short = 'extends = "quickstart"\n[run]\nepochs = 2\n[network.layers]\nl1 = {units = 5}\n'
    file.write_bytes(_mutated(random.choice([original, short]), random))
    done = shop.commands.hep("presets", file)
    answer = _answer(done, "mine.toml", *_words(file))
    if answer == "accepted":
        (folder / "again.toml").write_text(done.output, encoding="utf-8")
        again = shop.commands.succeed("presets", folder / "again.toml")
        require(
            tomllib.loads(again.output) == tomllib.loads(done.output),
            f"{file}: printed, it is another preset",
        )
        require(_plain(tomllib.loads(done.output)), f"{file}: numbers that are not finite")
    return answer


def _words(file: Path) -> list[str]:
    """Keys and values of a TOML file, of which an error names one."""
    return re.findall(r"[\w.-]{3,}", file.read_text("utf-8", "replace"))


def _sweep_file(shop: Workshop, random: Random, folder: Path) -> str:
    file = folder / "mine.toml"
    file.write_bytes(
        _mutated(preset_text(f"sweeps/{random.choice(['fig3', 'fig4-loop', 'table1'])}"), random)
    )
    done = shop.commands.hep("sweep", file, "--dry-run", "--json")
    answer = _answer(done, "mine.toml", *_words(file))
    if answer == "accepted":
        require(_plain(json.loads(done.output)), f"{file}: numbers that are not finite")
    return answer


def _archive(shop: Workshop, random: Random, folder: Path) -> str:
    name = random.choice(["fashion_mnist"] * 4 + ["cifar10", "cifar100", "imagenet32", "nonsense"])
    source, data = folder / "source", folder / "data"
    source.mkdir()
    for file in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        _write_archive(source / f"{file}-ubyte.gz", random)
    done = shop.commands.hep("data", "import", name, source, "--data-dir", data)
    answer = _answer(done, "ubyte", name, "cifar", "Imagenet", "source")
    listed = json.loads(shop.commands.succeed("data", "list", "--json", "--data-dir", data).output)
    ready = [each["name"] for each in listed["datasets"] if each["state"] not in ("missing", "bundled")]
    require(answer == "accepted" or not ready, f"{done.line}: refused, yet {ready} looks prepared")
    return answer


def _write_archive(file: Path, random: Random) -> None:
    """An official archive, whole or harmed, or a tiny one of noise where those are not at hand."""
    official = ARCHIVES / file.name
    rank = 3 if "images" in file.name else 1
    shape = [random.choice([0, 3, 10_000]), 28, 28][:rank]
    head = struct.pack(f">{1 + rank}I", random.choice([0x800 | rank, 0x800 | rank, 0, 0xD00 | rank]), *shape)
    content = gzip.compress(head + random.randbytes(math.prod(shape) if random.random() < 0.7 else 7), 1)
    if official.exists() and random.random() < 0.8:
        content = official.read_bytes()
        if random.random() < 0.4:
            data = bytearray(content)
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
            content = bytes(data[: random.choice([len(data), random.randrange(len(data))])])
    if random.random() < 0.95:
        file.write_bytes(random.choice([content] * 9 + [b"", b"<html>quota exceeded</html>"]))
