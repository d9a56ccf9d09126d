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
    dump_sweep,
    parse_sweep,
    preset_name,
    read_config,
    read_text,
    sweep_differences,
)
from hepcli.errors import CodeError, ConfigError, SweepError
from hepcli.experiments.run_folder import METRICS_FILE, SUMMARY_FILE, RunFolder
from hepcli.experiments.sweeps.claims import Journal
from hepcli.experiments.sweeps.points import Point, changed_error, folder_of, is_point
from hepcli.experiments.sweeps.trials import read_trials
from hepcli.files import write_once

POINTS_FILE = "points.json"

_AGAIN = "Run the command that started the sweep again, with this folder as --out."


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

    def join(self, definition: SweepDefinition, points: Sequence[Point], *, extend: bool = False) -> None:
        """Make the folder, or check that it is of the same sweep; safe when several do so at once.

        Args:
            definition: of the sweep.
            points: of the sweep; of a search they are found one after the other.
            extend: whether a search that is there may go on with more trials.

        Raises:
            ConfigError: it holds another definition, or a preset has changed since.
            OutputError: it cannot be written.
            SweepError: its list of points is damaged, or of another sweep.
        """
        self._create_once(SWEEP_FILE, dump_sweep(definition))
        longer = self.check(definition, extend=extend)
        if longer:  # nothing else differs
            self._extend(definition)
        if definition.search is None:
            self._create_once(POINTS_FILE, _listed(points))
            self.check_points(points)
        self._follow(definition, points)

    def _follow(self, definition: SweepDefinition, points: Sequence[Point]) -> None:
        """Update the paths of presets: the project may have moved, and the sweep with it."""
        there, asked = ([], []) if definition.search is not None else (self.points(), points)
        if _presets(self.definition(), there) == _presets(definition, asked):
            return
        with self.writing():
            self._writer.write_text(SWEEP_FILE, dump_sweep(definition))
            if definition.search is None:
                self._writer.write_text(POINTS_FILE, _listed(points))

    def check(self, definition: SweepDefinition, *, extend: bool = False) -> bool:
        """Whether a search that is there asks for more trials now; raises ConfigError for another sweep."""
        differing = sweep_differences(self.definition(), definition)
        longer = extend and any(key == "search.trials" for key, *_ in differing)
        for key, old, new in differing:
            if longer and key == "search.trials":
                continue
            raise ConfigError(
                f"{self.path} contains another sweep: {key} is {_shown(old)} there, but {_shown(new)} was "
                "requested.",
                self._how_to_change(key),
            )
        return longer

    def _how_to_change(self, key: str) -> str:
        if key == "search.trials":
            return "To add trials, give --resume, too."
        advice = "Repeat the original command to continue it, or choose another --out for a new one"
        if self.definition().search is None and (key == "seeds" or key.startswith("axis ")):
            advice += f"; --reuse {shlex.quote(str(self.path))} copies what is there"
        return f"{advice}."

    def check_points(self, points: Sequence[Point]) -> None:
        """Check that these are the points of the sweep that is there.

        Raises:
            ConfigError: a preset has changed since.
            SweepError: its list of points is damaged, or of another sweep.
        """
        asked = [Point(**record) for record in json.loads(_listed(points))]
        there = self.points()
        if [preset_name(point.preset) for point in there] == [preset_name(point.preset) for point in asked]:
            there = [old._replace(preset=new.preset) for old, new in zip(there, asked, strict=True)]
        _compare(self.path / POINTS_FILE, there, asked)

    def _extend(self, definition: SweepDefinition) -> None:
        """Give a search its new number of trials, which is no less than were begun."""
        begun, asked = len(read_trials(self.path)), definition.search.trials if definition.search else 0
        if asked < begun:
            raise ConfigError(
                f"search.trials = {asked}: {begun} trials have already been started in {self.path}.",
                f"Set it to {begun} or more.",
            )
        with self.writing():
            self._writer.write_text(SWEEP_FILE, dump_sweep(definition))

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
            return _with_presets(found, _presets(definition, []))
        file = self.path / POINTS_FILE
        try:
            records = json.loads(file.read_bytes())
        except FileNotFoundError as error:
            raise SweepError(f"{self.path} has no {POINTS_FILE}.", _AGAIN) from error
        except (ValueError, RecursionError):  # neither JSON nor text
            records = None
        if not isinstance(records, list) or not records or not all(map(is_point, records)):
            raise SweepError(f"{file} is damaged.", f"Delete it. {_AGAIN}")
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

    def _create_once(self, name: str, text: str) -> None:
        """Write a file that is not there yet; of several processes at once the first one's stays."""
        with self.writing():
            self.path.mkdir(parents=True, exist_ok=True)
            write_once(self.path / name, text)


def _presets(definition: SweepDefinition, points: Sequence[Point]) -> list[str]:
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


def _listed(points: Sequence[Point]) -> str:
    """The contents of points.json."""
    return json.dumps([point._asdict() for point in points], indent=1, ensure_ascii=False) + "\n"


def _compare(file: Path, there: Sequence[Point], points: Sequence[Point]) -> None:
    """Check the points that a file lists against those of the definition beside it.

    Raises:
        ConfigError: nothing but hashes differs: a preset has changed.
        SweepError: more does, so that they are of another sweep, or damaged.
    """
    if len(there) == len(points):
        pairs = [(old, new) for old, new in zip(there, points, strict=True) if old != new]
        renamed = [
            new._replace(hash=old.hash, folder=folder_of(new.labels, new.seed, old.hash))
            for old, new in pairs
        ]
        if not pairs:
            return
        if [old for old, _ in pairs] == renamed:
            raise changed_error(pairs[0][1].preset)
    raise SweepError(f"{file} does not belong to the sweep in {SWEEP_FILE}.", f"Delete it. {_AGAIN}")


def _shown(value: object) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:197]}..."
