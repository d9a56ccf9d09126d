"""Disks that are full from some moment on, until room is made.

Three stand-ins: a limit on the size of files (RLIMIT_FSIZE), which fails every write of Python and of
TensorStore alike; a refusal of every file that is to be written (ENOSPC, raised by an audit hook in the
command's process); and, for root in the full campaign, a file system in memory that is too small.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from .commands import Done, require
from .workshop import Workshop

REASONS = (os.strerror(28), os.strerror(27))  # no space left on the device, file too large


def trial(shop: Workshop, random: Random, folder: Path) -> str:
    """Fill the disk of a run that begins or goes on, make room, and compare it with the undisturbed one."""
    how = random.choice(["limit", "refuse", "mount"] if _can_mount(folder) else ["limit", "refuse"])
    begins = random.random() < 0.7
    if how == "mount":
        with _small_disk(folder / "disk", random.randint(16, 220)) as grow:
            return _fill(shop, random, folder / "disk" / "run", begins, None, grow)
    trigger = {
        "part": f"{folder}/",
        "nth": random.randint(1, shop.uses // 2),
        "action": how,
        "writes_only": True,
    }
    trigger["value"] = random.choice([0, 1, 200, 5_000, 80_000])
    return _fill(shop, random, folder / "run", begins, trigger, lambda: None)


def _fill(
    shop: Workshop, random: Random, out: Path, begins: bool, trigger: dict[str, Any] | None, grow: Any
) -> str:
    command = shop.train(out)
    resume: list[object] = ["train", "--resume", "--quiet", "--out", out]
    if not begins:
        _copy_half(shop, out, grow if trigger is None else None)
    done = shop.commands.hep(*(command if begins else resume), trigger=trigger)
    _require_words(done)
    grow()
    shop.commands.lead_on(command, random.choice([command, resume]))
    shop.require_whole(out)
    how = "a small disk" if trigger is None else f"{trigger['action']}"
    return f"{how}: stopped" if done.status else f"{how}: had room"


def _copy_half(shop: Workshop, out: Path, grow: Any) -> None:
    """Half a run; on a disk with room for it and little more."""
    if grow is not None:
        grow()
    shop.copy("half", out)
    if grow is not None:
        used = int(subprocess.check_output(["du", "-sk", out.parent]).split()[0])
        _resize(out.parent, used + 60)


def _require_words(done: Done) -> None:
    """Require an error to say what the system said, and what to do."""
    require(done.status in (0, 1), f"status {done.status}: {done.errors[-600:]}")
    if done.status == 1:
        require("error: " in done.errors and "try: " in done.errors, f"no words: {done.errors[-600:]}")
        require(any(reason in done.errors for reason in REASONS), f"no reason: {done.errors[-600:]}")


def _can_mount(folder: Path) -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0 and bool(os.environ.get("HEP_FAULTS_MOUNT"))


@contextmanager
def _small_disk(at: Path, kibibytes: int) -> Iterator[Any]:
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", at], check=True)
    try:
        yield lambda: _resize(at, 50_000)
    finally:
        subprocess.run(["umount", "-l", at], check=True)


def _resize(at: Path, kibibytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kibibytes}k", at], check=True)
