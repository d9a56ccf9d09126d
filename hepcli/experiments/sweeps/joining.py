"""How a sweep comes into its folder: begun there, joined, continued or made longer, and nothing else."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from hepcli.config import SWEEP_FILE, SweepDefinition, dump_sweep, preset_name, sweep_differences
from hepcli.errors import ConfigError, SweepError
from hepcli.experiments.sweeps.folder import POINTS_FILE, START_AGAIN, SweepFolder, presets_of
from hepcli.experiments.sweeps.points import Point, changed_error, folder_of
from hepcli.experiments.sweeps.trials import read_trials


def join(
    folder: SweepFolder, definition: SweepDefinition, points: Sequence[Point], *, extend: bool = False
) -> None:
    """Make the folder, or check that it is of the same sweep; safe when several do so at once.

    Args:
        folder: where.
        definition: of the sweep.
        points: of the sweep; of a search they are found one after the other.
        extend: whether a search that is there may go on with more trials.

    Raises:
        ConfigError: it holds another definition, or a preset has changed since.
        OutputError: it cannot be written.
        SweepError: its list of points is damaged, or of another sweep.
    """
    folder.write_first(SWEEP_FILE, dump_sweep(definition))
    longer = check_definition(folder, definition, extend=extend)
    if longer:  # nothing else differs
        _extend(folder, definition)
    if definition.search is None:
        folder.write_first(POINTS_FILE, _listed(points))
        check_points(folder, points)
    _follow(folder, definition, points)


def _follow(folder: SweepFolder, definition: SweepDefinition, points: Sequence[Point]) -> None:
    """Update the paths of presets: the project may have moved, and the sweep with it."""
    there, asked = ([], []) if definition.search is not None else (folder.points(), points)
    if presets_of(folder.definition(), there) == presets_of(definition, asked):
        return
    folder.write(SWEEP_FILE, dump_sweep(definition))
    if definition.search is None:
        folder.write(POINTS_FILE, _listed(points))


def check_definition(folder: SweepFolder, definition: SweepDefinition, *, extend: bool = False) -> bool:
    """Whether a search that is there asks for more trials now; raises ConfigError for another sweep."""
    differing = sweep_differences(folder.definition(), definition)
    longer = extend and any(key == "search.trials" for key, *_ in differing)
    for key, old, new in differing:
        if longer and key == "search.trials":
            continue
        raise ConfigError(
            f"{folder.path} contains another sweep: {key} is {_shown(old)} there, but {_shown(new)} was "
            "requested.",
            _how_to_change(folder, key),
        )
    return longer


def _how_to_change(folder: SweepFolder, key: str) -> str:
    if key == "search.trials":
        return "To add trials, give --resume, too."
    advice = "Repeat the original command to continue it, or choose another --out for a new one"
    if folder.definition().search is None and (key == "seeds" or key.startswith("axis ")):
        advice += f"; --reuse {shlex.quote(str(folder.path))} copies what is there"
    return f"{advice}."


def check_points(folder: SweepFolder, points: Sequence[Point]) -> None:
    """Check that these are the points of the sweep that is there.

    Raises:
        ConfigError: a preset has changed since.
        SweepError: its list of points is damaged, or of another sweep.
    """
    asked = [Point(**record) for record in json.loads(_listed(points))]
    there = folder.points()
    if [preset_name(point.preset) for point in there] == [preset_name(point.preset) for point in asked]:
        there = [old._replace(preset=new.preset) for old, new in zip(there, asked, strict=True)]
    _compare(folder.path / POINTS_FILE, there, asked)


def _extend(folder: SweepFolder, definition: SweepDefinition) -> None:
    """Give a search its new number of trials, which is no less than were begun."""
    begun, asked = len(read_trials(folder.path)), definition.search.trials if definition.search else 0
    if asked < begun:
        raise ConfigError(
            f"search.trials = {asked}: {begun} trials have already been started in {folder.path}.",
            f"Set it to {begun} or more.",
        )
    folder.write(SWEEP_FILE, dump_sweep(definition))


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
    raise SweepError(f"{file} does not belong to the sweep in {SWEEP_FILE}.", f"Delete it. {START_AGAIN}")


def _shown(value: object) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:197]}..."
