"""SIGKILL at any moment, at saving too."""

import time
from pathlib import Path
from random import Random

from .workshop import Workshop


def trial(shop: Workshop, random: Random, folder: Path) -> str:
    """Kill a run that begins or goes on, continue it, and compare it with the undisturbed one."""
    out = folder / "run"
    begins = random.random() < 0.7
    command = shop.train(out)
    resume: list[object] = ["train", "--resume", "--quiet", "--out", out]
    if not begins:
        shop.copy("half", out)
    killed = _kill(shop, random, command if begins else resume, out)
    shop.commands.lead_on(command, random.choice([command, resume]))
    shop.require_whole(out)
    return killed


def _kill(shop: Workshop, random: Random, command: list[object], out: Path) -> str:
    """Start the command and kill it; says at what kind of moment, or that it was over before."""
    how = random.choice(["at a file", "at a file", "at saving", "in between"])
    if how == "at a file":
        trigger = {"part": f"{out}/", "nth": random.randint(1, shop.uses), "action": "kill"}
        done = shop.commands.hep(*command, trigger=trigger)
    else:
        started = shop.commands.start(*command)
        if how == "at saving":
            saving = out / "checkpoints" / f".saving-{4 * random.randint(0, 7)}"
            started.wait_until(saving.exists)
            time.sleep(random.random() * 0.03)
        else:
            time.sleep(random.random() * 2.0)
        started.send(9)
        done = shop.commands.finish(started)
    return f"killed {how}" if done.status == -9 else "over before"
