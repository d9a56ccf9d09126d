"""Signals that ask to stop, to training and to a sweep's whole tree."""

import signal
import time
from pathlib import Path
from random import Random

from .commands import Done, require
from .workshop import Workshop

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
INTERRUPTED = 130


def trial(shop: Workshop, random: Random, folder: Path) -> str:
    """Signal a run or a sweep, follow what it prints, and compare it with the undisturbed one."""
    out, number = folder / "out", random.choice(NUMBERS)
    is_sweep = random.random() < 0.3
    command = shop.sweep(out) if is_sweep else shop.train(out)
    done = (_signal_at_a_file if not is_sweep and random.random() < 0.5 else _signal_in_between)(
        shop, random, command, number
    )
    what = f"{'a sweep' if is_sweep else 'a run'} {number.name}"
    require(done.status in (0, INTERRUPTED, -number), f"{what}: status {done.status}")
    advised = done.advised()
    require(done.status != INTERRUPTED or advised or not _has_begun(out), f"{what}: nothing leads on")
    if done.status != 0:
        shop.commands.lead_on(command, advised)
    (shop.require_swept if is_sweep else shop.require_whole)(out)
    words = {0: "over before", INTERRUPTED: "saved"}
    return f"{'sweep' if is_sweep else 'run'} {words.get(done.status, 'ended at once')}"


def _has_begun(out: Path) -> bool:
    return any((out / "checkpoints").glob("[0-9]*")) or (out / "sweep.toml").exists()


def _signal_at_a_file(shop: Workshop, random: Random, command: list[object], number: int) -> Done:
    """Signal at a use of a file, which can be repeated."""
    nth = random.randint(1, shop.uses)
    trigger = {"part": f"{command[-1]}/", "nth": nth, "action": "signal", "value": int(number)}
    return shop.commands.hep(*command, trigger=trigger)


def _signal_in_between(shop: Workshop, random: Random, command: list[object], number: int) -> Done:
    """Signal a command begun as from a shell, its imports included; at times twice."""
    started = shop.commands.start(*command, fresh=True)
    tree, twice = random.random() < 0.5, random.random() < 0.2
    time.sleep(random.random() * (8.0 if "sweep" in command else 4.0))
    started.send(number, tree=tree)
    if twice:
        time.sleep(random.random() * 0.5)
        started.send(number, tree=tree)
    return shop.commands.finish(started)
