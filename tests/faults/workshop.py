"""Runs and sweeps to harm, made once and copied for each trial, and what an undisturbed one comes to."""

import json
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from .commands import Commands, require

SETTINGS = (
    *("network.layers.l1.units=8", "network.layers.l2.units=6"),
    *("relaxation.free_steps=4", "relaxation.nudged_steps=2"),
    *("data.batch_size=500", "checkpoints.every_steps=4"),
)
SMALL = tuple(word for setting in SETTINGS for word in ("--set", setting))
EPOCHS = 3  # of 10 steps each
VARYING = ("training_seconds", "images_per_second", "run", "checkpoint", "files")  # of a clock, or a path

Record = dict[str, Any]


class Workshop:
    """Makes what trials need, lazily.

    Args:
        commands: starts commands.
        folder: where the originals lie.
    """

    def __init__(self, commands: Commands, folder: Path) -> None:
        self.commands, self._folder = commands, folder
        self._known: dict[str, Any] = {}

    def train(self, out: Path, seed: int = 0) -> list[object]:
        """The command of the small run."""
        return ["train", *SMALL, "--epochs", EPOCHS, "--seed", seed, "--quiet", "--out", out]

    def sweep(self, out: Path, seeds: str = "0-1") -> list[object]:
        """The command of the small sweep, of one point with two seeds."""
        vary = ("--vary", "network.initial_angle_deg=45.0", "--seeds", seeds)
        return ["sweep", "--preset", "quickstart", *vary, *SMALL, "--epochs", 2, "--quiet", "--out", out]

    def copy(self, original: str, to: Path) -> Path:
        """Copy an original, an attribute of this class."""
        return Path(shutil.copytree(getattr(self, original), to))

    @cached_property
    def whole(self) -> Path:
        """A finished run; its uses of files are counted on the way."""
        out = self._folder / "whole"
        counter = {"part": "whole/", "nth": 0, "action": "count", "value": str(self._folder / "uses.txt")}
        require(self.commands.hep(*self.train(out), trigger=counter).status == 0, "training fails")
        return out

    @property
    def uses(self) -> int:
        """How often an undisturbed run uses a file of its folder."""
        assert self.whole.exists()
        return int((self._folder / "uses.txt").read_text())

    @cached_property
    def half(self) -> Path:
        """The same run, killed in its second epoch."""
        out = self._folder / "half"
        kill = {"part": "half/checkpoints/.saving-16/manifest", "nth": 1, "action": "kill"}
        self.commands.hep(*self.train(out), trigger=kill)
        return out

    @cached_property
    def other(self) -> Path:
        """A finished run of another seed."""
        self.commands.succeed(*self.train(self._folder / "other", seed=1))
        return self._folder / "other"

    @cached_property
    def both(self) -> Path:
        """A folder that holds two finished runs."""
        shutil.copytree(self.whole, self._folder / "both" / "a")
        shutil.copytree(self.other, self._folder / "both" / "b")
        return self._folder / "both"

    @cached_property
    def other_both(self) -> Path:
        """The same two runs, the other way round."""
        shutil.copytree(self.other, self._folder / "other_both" / "a")
        shutil.copytree(self.whole, self._folder / "other_both" / "b")
        return self._folder / "other_both"

    @cached_property
    def swept(self) -> Path:
        """A finished sweep."""
        self.commands.succeed(*self.sweep(self._folder / "swept"))
        return self._folder / "swept"

    @cached_property
    def other_swept(self) -> Path:
        """A finished sweep over other seeds."""
        self.commands.succeed(*self.sweep(self._folder / "other_swept", seeds="1-2"))
        return self._folder / "other_swept"

    @cached_property
    def half_swept(self) -> Path:
        """A sweep that was stopped after its first point."""
        out = self.copy("swept", self._folder / "half_swept")
        points = json.loads((out / "points.json").read_text())
        shutil.rmtree(out / "claims" / points[-1]["hash"])
        shutil.rmtree(out / "runs" / points[-1]["folder"])
        for made in (*out.glob("table.*"), *out.glob("figure.*")):
            made.unlink()
        return out

    def of_whole(self, name: str, make: Callable[[], Any]) -> Any:
        """What an undisturbed original comes to, made at the first call for a name."""
        if name not in self._known:
            self._known[name] = make()
        return self._known[name]

    def evaluated(self, run: Path) -> Record:
        """What the last checkpoint of a run evaluates to."""
        return timeless(json.loads(self.commands.succeed("eval", run, "--json").output))

    def require_whole(self, run: Path) -> None:
        """Require a run to be what it is undisturbed, byte for byte.

        Raises:
            FaultError: it is not.
        """
        same = (run / "metrics.jsonl").read_bytes() == (self.whole / "metrics.jsonl").read_bytes()
        require(same, f"{run / 'metrics.jsonl'} differs from that of the undisturbed run")
        require((run / "summary.json").exists(), f"{run} has no summary.json")
        expected = self.of_whole("evaluated", lambda: self.evaluated(self.whole))
        require(self.evaluated(run) == expected, "the last checkpoint evaluates to other numbers")

    def require_swept(self, out: Path) -> None:
        """Require a sweep to be what it is undisturbed, byte for byte where there is no clock.

        Raises:
            FaultError: it is not.
        """
        for run in sorted((self.swept / "runs").iterdir()):
            same = (run / "metrics.jsonl").read_bytes() == (
                out / "runs" / run.name / "metrics.jsonl"
            ).read_bytes()
            require(same, f"metrics.jsonl of {run.name} differs from that of the undisturbed sweep")
        cells = [json.loads((each / "table.json").read_text())["cells"] for each in (out, self.swept)]
        require(cells[0] == cells[1], "table.json differs from that of the undisturbed sweep")
        for log in (out / "logs").glob("*.log"):
            require(
                "Traceback" not in log.read_text(), f"a traceback in {log.name}: {log.read_text()[-1500:]}"
            )


def timeless(record: Any) -> Any:
    """A record without what depends on the hour and the place."""
    if isinstance(record, dict):
        return {key: timeless(value) for key, value in record.items() if key not in VARYING}
    return [timeless(value) for value in record] if isinstance(record, list) else record
