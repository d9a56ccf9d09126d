"""The folder of a sweep: its definition, its points, their runs and journals."""

import json
import shlex
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from hepcli.checkpoints import CONFIG_FILE, CheckpointStore
from hepcli.code import CODE_FOLDER, load_kept
from hepcli.config import (
    SWEEP_FILE,
    SweepDefinition,
    config_hash,
    parse_sweep,
    preset_name,
    read_config,
    read_text,
)
from hepcli.errors import CodeError, ConfigError, SweepError
from hepcli.experiments.run_files import METRICS_FILE, SUMMARY_FILE
from hepcli.experiments.run_folder import RunFolder
from hepcli.experiments.sweeps.claims import Journal
from hepcli.experiments.sweeps.points import Point, is_point
from hepcli.experiments.sweeps.trials import read_trials
from hepcli.files import write_once

POINTS_FILE = "points.json"

START_AGAIN = "Run the command that started the sweep again, with this folder as --out."


def code_table(definition: SweepDefinition) -> dict[str, Any]:
    """The [code] table of a sweep's runs; empty where they have none."""
    prefix = "code."
    return {
        key.removeprefix(prefix): value
        for key, value in definition.sweep.set.items()
        if key.startswith(prefix)
    }


class Status(NamedTuple):
    """How far a point is: `waiting`, `running`, `done`, `pruned` or `failed`, and the epochs behind it."""

    state: str
    epochs: int


class SweepFolder:
    """Paths, reading and writing of a sweep folder.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = RunFolder(path)

    def writing(self) -> AbstractContextManager[None]:
        """Turn the system's errors of writing here into one of ours, OutputError."""
        return self._writer.writing()

    def write(self, name: str, text: str) -> None:
        """Replace a file as a whole; raises OutputError."""
        with self.writing():
            self._writer.write_text(name, text)

    def write_first(self, name: str, text: str) -> None:
        """Write a file that is not there yet; of several processes at once the first one's stays."""
        with self.writing():
            self.path.mkdir(parents=True, exist_ok=True)
            write_once(self.path / name, text)

    @property
    def holds_sweep(self) -> bool:
        """Whether a sweep was started here."""
        return (self.path / SWEEP_FILE).is_file()

    def check_there(self) -> None:
        """Check that the sweep is still where it was; raises SweepError."""
        if not self.holds_sweep:
            raise SweepError(
                f"{self.path} was moved or deleted while its runs were training.",
                "Nothing more was written. Continue where it is now: hep sweep --resume --out DIR",
            )

    def keep_code(self, definition: SweepDefinition) -> None:
        """Keep copies of the files with own components, for workers; raises OutputError."""
        self._writer.write_code(code_table(definition).get("files", ()))

    def load_code(self) -> None:
        """Load the copies; raises CodeError where one was changed."""
        load_kept(code_table(self.definition()), self.path / CODE_FOLDER, str(self.path))

    def definition(self) -> SweepDefinition:
        """The definition in the folder.

        Raises:
            ConfigError: it is missing or damaged.
        """
        file = self.path / SWEEP_FILE
        if not file.is_file():
            raise ConfigError(
                f"{self.path} contains no sweep: there is no {SWEEP_FILE}.",
                "Give the folder of a sweep, or a sweep to start there: hep sweep table1 --out DIR",
            )
        return parse_sweep(read_text(file), str(file))

    def points(self) -> list[Point]:
        """The points of the sweep in the folder; of a search those that were chosen so far.

        Raises:
            SweepError: their file is missing or damaged.
        """
        definition = self.definition()
        if definition.search is not None:
            found = [point for trial in read_trials(self.path) for point in trial.points]
            return _with_presets(found, presets_of(definition, []))
        file = self.path / POINTS_FILE
        try:
            records = json.loads(file.read_bytes())
        except FileNotFoundError as error:
            raise SweepError(f"{self.path} has no {POINTS_FILE}.", START_AGAIN) from error
        except (ValueError, RecursionError):  # neither JSON nor text
            records = None
        if not isinstance(records, list) or not records or not all(map(is_point, records)):
            raise SweepError(f"{file} is damaged.", f"Delete it. {START_AGAIN}")
        return [Point(**record) for record in records]

    def stranger(self, point: Point) -> str | None:
        """What lies in the run folder of a point but belongs to another run, in words; None if nothing.

        Raises:
            OutputError: a summary is damaged.
        """
        run = self.run(point)
        summary = run.read_summary()
        if summary is not None:
            is_own = summary.get("config_hash") == point.hash
            return None if is_own else f"{run.path / SUMMARY_FILE} belongs to another run."
        if not run.holds_run:
            return None
        try:
            is_own = config_hash(read_config(run.path)) == point.hash
        except (ConfigError, CodeError) as error:
            return str(error)
        return None if is_own else f"{run.path / CONFIG_FILE} belongs to another run."

    def is_lost(self, point: Point) -> bool:
        """Whether a point is done, but there is no summary of it any more."""
        return self.state(point) == "done" and not (self.run(point).path / SUMMARY_FILE).exists()

    def lost(self, point: Point) -> str:
        """What to say of a point that is lost."""
        return (
            f"{self.run(point).path / SUMMARY_FILE} is missing, although the run was finished. To train it "
            f"again, run: {shlex.join(['hep', 'sweep', '--resume', '--out', str(self.path)])}"
        )

    def run(self, point: Point) -> RunFolder:
        """The run folder of a point."""
        return RunFolder(self.path / "runs" / point.folder)

    def journal(self, point: Point) -> Journal:
        """The journal of a point."""
        return Journal(self.path / "claims" / point.hash)

    def status(self, point: Point) -> Status:
        """How far a point is."""
        file = self.run(point).path / METRICS_FILE
        epochs = file.read_bytes().count(b"\n") if file.exists() else 0
        return Status(self.state(point), epochs)

    def step(self, point: Point) -> int:
        """The step of its newest checkpoint; 0 where there is none."""
        return max(CheckpointStore(self.run(point).checkpoints).all_steps(), default=0)

    def state(self, point: Point) -> str:
        """The state of a point by its journal; where that ends in a damaged entry, a summary will do.

        Raises:
            OutputError: the summary is damaged as well.
        """
        journal = self.journal(point)
        if journal.damaged() is not None:
            summary = self.run(point).read_summary()
            if summary is not None and summary.get("config_hash") == point.hash:
                return "done"
        return journal.state()


def presets_of(definition: SweepDefinition, points: Sequence[Point]) -> list[str]:
    """All presets of a sweep, in order."""
    grids = [definition.axis, *(grid.axis for grid in definition.grid)]
    places = [place.preset for axes in grids for axis in axes for place in axis.places]
    return [definition.sweep.preset, *filter(None, places), *(point.preset for point in points)]


def _with_presets(points: Sequence[Point], presets: Sequence[str]) -> list[Point]:
    """Points that read their presets where the definition does now, after a move; their hashes guard."""
    there = {preset_name(preset): preset for preset in presets}
    return [
        point._replace(preset=there.get(preset_name(point.preset), point.preset))
        if point.preset not in presets
        else point
        for point in points
    ]
