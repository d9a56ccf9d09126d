"""From a definition to its points: every combination of places on the axes, with every seed."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hepcli.config import (
    AxisPoint,
    Config,
    ResolvedConfig,
    SweepDefinition,
    config_error,
    config_hash,
    expanded,
    is_path,
    try_config,
    without_numbers,
)
from hepcli.errors import ConfigError
from hepcli.files import legible
from hepcli.settings import Fault

_SLUG_LENGTH = 48


class Point(NamedTuple):
    """One run of a sweep.

    Attributes:
        hash: of its configuration.
        folder: name of its run folder.
        labels: axis to label, in the order of the axes.
        seed: of the run.
        preset: base preset.
        settings: dotted keys to values, on top of the preset.
    """

    hash: str
    folder: str
    labels: dict[str, str]
    seed: int
    preset: str
    settings: dict[str, Any]

    @property
    def title(self) -> str:
        """What to call it on a line."""
        return ", ".join([*(f"{axis} {label}" for axis, label in self.labels.items()), f"seed {self.seed}"])


def is_point(record: object) -> bool:
    """Whether a record is a point as a sweep's folder lists them."""
    kinds = {"hash": str, "folder": str, "labels": dict, "seed": int, "preset": str, "settings": dict}
    if not isinstance(record, dict) or record.keys() != kinds.keys():
        return False
    plain = all(type(record[key]) is kind for key, kind in kinds.items())
    names = [record["hash"], record["folder"]] if plain else [""]
    inside = all(Path(name).name == name != ".." and name.isprintable() for name in names)
    return plain and inside and all(type(label) is str for label in record["labels"].values())


def expand(definition: SweepDefinition) -> list[Point]:
    """List the points of a sweep that is no search, seed by seed within each combination.

    Args:
        definition: the sweep.

    Returns:
        The points, at least one; of a union of grids each once, where it comes first.

    Raises:
        ConfigError: a preset is missing, keys or values are not allowed (all of them are named), or two
            points are the same configuration.
    """
    points = _checked(definition, definition.combinations())
    if definition.grid:
        _check_told_apart(points)
        once: dict[str, Point] = {}
        for point in points:
            once.setdefault(point.hash, point)
        return list(once.values())
    _check_distinct(points)
    return points


def probe(definition: SweepDefinition) -> list[Point]:
    """Points that try every place of a search, or the ends of a range, with all other axes at their first.

    Raises:
        ConfigError: as `expand` does; two places of an axis must not be the same configuration either.
    """
    first = tuple(axis.places[0] for axis in definition.axis)
    combinations = [
        [(*first[:at], place, *first[at + 1 :]) for place in axis.places]
        for at, axis in enumerate(definition.axis)
    ]
    points = _checked(
        definition, ((labels_of(definition, places), places) for own in combinations for places in own)
    )
    left = iter(points)
    for own in combinations:
        _check_distinct(list(itertools.islice(left, len(own) * len(definition.sweep.seeds))))
    return points


def labels_of(definition: SweepDefinition, places: Sequence[AxisPoint]) -> dict[str, str]:
    """Axis to label, for a place on every axis of a search."""
    return {axis.name: place.label for axis, place in zip(definition.axis, places, strict=True)}


def _checked(
    definition: SweepDefinition, combinations: Iterable[tuple[dict[str, str], Sequence[AxisPoint]]]
) -> list[Point]:
    """The points of combinations; raises ConfigError with all that is not allowed."""
    points: list[Point] = []
    every: dict[Fault, None] = {}
    for labels, places in combinations:
        found, faults = points_at(definition, labels, places)
        points += found
        every.update(dict.fromkeys(faults))
    if every:
        raise config_error(list(every), "sweep")
    return points


def points_at(
    definition: SweepDefinition, labels: dict[str, str], places: Sequence[AxisPoint]
) -> tuple[list[Point], list[Fault]]:
    """The points of one combination, one a seed, and what is not allowed of it."""
    sweep = definition.sweep
    presets = [place.preset for place in places if place.preset is not None]
    preset = presets[-1] if presets else sweep.preset
    settings = dict(sweep.set)
    for place in places:
        settings.update(place.set)
    points, faults = [], []
    for seed in sweep.seeds:
        resolved, own = try_config(preset, (), settings | {"run.seed": seed})
        faults += own
        if resolved is not None:
            points.append(_point(resolved, labels, seed, preset, settings))
    return points, faults


def folder_of(labels: Mapping[str, str], seed: int, name: str) -> str:
    """The name of a point's run folder; `name` is the hash of its configuration."""
    slug = "-".join(
        re.sub(r"[^a-z0-9.]+", "-", f"{axis} {label}".lower()).strip("-.") for axis, label in labels.items()
    )
    return "-".join(filter(None, [slug[:_SLUG_LENGTH].strip("-."), f"s{seed}", name]))


def resolve(point: Point) -> ResolvedConfig:
    """The configuration of a point.

    Raises:
        ConfigError: its preset has changed since the sweep was started.
    """
    resolved, faults = try_config(point.preset, (), point.settings | {"run.seed": point.seed})
    if resolved is None:
        raise config_error(faults)
    if config_hash(resolved.config) != point.hash:
        raise changed_error(point.preset)
    return resolved


def changed_error(preset: str) -> ConfigError:
    """The error of a preset that is no longer what the sweep was started with."""
    return ConfigError(
        f"the preset {preset} has changed since this sweep was started.",
        "Restore it, or start a new sweep with another --out.",
    )


def program_of(config: Config) -> str:
    """Name the compiled program of a run: equal for runs that can train together."""
    return config_hash(without_numbers(config))


def _point(
    resolved: ResolvedConfig, labels: dict[str, str], seed: int, preset: str, settings: Mapping[str, Any]
) -> Point:
    name = config_hash(resolved.config)
    return Point(name, folder_of(labels, seed, name), labels, seed, preset, dict(settings))


def _check_distinct(points: list[Point]) -> None:
    seen: dict[str, Point] = {}
    for point in points:
        if point.hash in seen:
            raise ConfigError(
                f"two points have the same configuration: ({seen[point.hash].title}) and ({point.title}).",
                "Leave one of them out.",
            )
        seen[point.hash] = point


def _check_told_apart(points: list[Point]) -> None:
    """Check that points of one place and seed are one configuration, lest a table mixes them."""
    seen: dict[tuple[object, ...], Point] = {}
    for point in points:
        first = seen.setdefault((*point.labels.items(), point.seed), point)
        if first.hash != point.hash:
            raise ConfigError(
                f"two grids have a point ({point.title}), with different settings.",
                "Add an axis that tells them apart, with one point in each of the grids.",
            )


def absolute_preset(preset: str) -> str:
    """A preset's path in full, so that workers elsewhere find it; a shipped name stays.

    Raises:
        ConfigError: TOML cannot hold it.
    """
    if legible(preset) != preset:
        raise ConfigError(
            f"the path {legible(preset)} is not UTF-8.",
            "Rename the file; a sweep can store only UTF-8 paths.",
        )
    return str(expanded(preset).absolute()) if is_path(preset) else preset
