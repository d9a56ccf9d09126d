"""The campaign: its kinds, their trials one after the other, and what came of them."""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import NamedTuple, TextIO

from . import damages, full_disks, inputs, kills, signals
from .commands import Commands, FaultError
from .workshop import Workshop

SEED = 20260101

Trial = Callable[[Workshop, Random, Path], str]


class Kind(NamedTuple):
    """A kind of faults: its trial, how many make the full campaign, and which ones the small one."""

    trial: Trial
    full: int
    small: tuple[int, ...]


KINDS = {
    "kills": Kind(kills.trial, 100, (1, 6)),
    "signals": Kind(signals.trial, 50, (8,)),
    "damages": Kind(damages.trial, 200, (0, 3, 7, 35, 111, 122)),
    "full_disks": Kind(full_disks.trial, 20, (1,)),
    "inputs": Kind(inputs.trial, 200, (*range(8), 183)),
}


class Fault(NamedTuple):
    """A fault that was found, and the commands of its trial."""

    kind: str
    moment: int
    what: str
    commands: tuple[str, ...]

    def __str__(self) -> str:
        lines = "".join(f"\n    {line[:400]}" for line in self.commands)
        return f"{self.kind} {self.moment}: {self.what}{lines}"


def tried(shop: Workshop, kind: str, moment: int, folder: Path) -> str | Fault:
    """One trial in a folder of its own; its outcome in words, or its fault.

    The folder stays where there was a fault.
    """
    here = folder / f"{kind}-{moment}"
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir(parents=True)
    shop.commands.history.clear()
    try:
        outcome = KINDS[kind].trial(shop, Random(f"{SEED} {kind} {moment}"), here)
    except (FaultError, OSError, ValueError, KeyError) as fault:  # the others: no file, no JSON, no such key
        lines = (f"{done.line}   -> {done.status}" for done in shop.commands.history)
        what = str(fault) if isinstance(fault, FaultError) else repr(fault)
        return Fault(kind, moment, what, tuple(lines))
    shutil.rmtree(here)
    return outcome


def campaign(folder: Path, plan: dict[str, Iterable[int]], log: TextIO = sys.stderr) -> list[Fault]:
    """Try the moments of each kind.

    Args:
        folder: to work in.
        plan: kind to its moments.
        log: gets a line for each fault, and at the end one of counts for each kind.

    Returns:
        The faults.
    """
    faults: list[Fault] = []
    originals = folder / "originals"
    shutil.rmtree(originals, ignore_errors=True)
    originals.mkdir()
    with Commands(folder) as commands:
        shop = Workshop(commands, originals)
        for kind, moments in plan.items():
            outcomes: Counter[str] = Counter()
            for moment in moments:
                outcome = tried(shop, kind, moment, folder)
                if isinstance(outcome, Fault):
                    faults.append(outcome)
                    print(outcome, file=log, flush=True)
                outcomes["FAULT" if isinstance(outcome, Fault) else outcome] += 1
            words = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
            print(
                f"{kind}: {outcomes.total()} tried, {outcomes['FAULT']} faults ({words})",
                file=log,
                flush=True,
            )
    return faults


def share_programs(folder: Path) -> None:
    """Compile each program once, as the tests do, for all commands of this process."""
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
