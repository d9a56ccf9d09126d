"""The axes of a sweep: values of a key, points that set several keys together, and ranges."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from hepcli.config.compare import flatten
from hepcli.config.config import Config
from hepcli.settings import STRICT, Fault, Faults, show

NonEmpty = Annotated[str, Field(min_length=1)]


class Table(BaseModel):
    """A table of a definition."""

    model_config = STRICT


def _dotted(settings: Any) -> Any:
    """TOML reads an unquoted relaxation.free_steps as a table in a table: it means that key alone."""
    if not isinstance(settings, Mapping):
        return settings
    inner = {
        name: table
        for name, table in settings.items()
        if name in Config.model_fields and isinstance(table, Mapping)
    }
    return {name: value for name, value in settings.items() if name not in inner} | flatten(inner)


Settings = Annotated[Mapping[str, Any], BeforeValidator(_dotted)]
"""Dotted keys to values."""


class AxisPoint(Table):
    """One place on an axis.

    Attributes:
        label: what tables and figures call it.
        preset: another base preset, instead of the sweep's.
        set: dotted keys to values, set together.
    """

    label: NonEmpty
    preset: str | None = None
    set: Settings = Field(default_factory=dict)


class Axis(Table):
    """What is varied: the values of one key, points that set several keys together, or in a search a range.

    Attributes:
        name: what tables and figures call it.
        key: dotted key of the values.
        values: of the key.
        points: instead of key and values.
        low: the least value of a range of the key, instead of values.
        high: the greatest.
        log: whether a range is searched on a logarithmic scale.
        integer: whether a range holds whole numbers only.
    """

    name: NonEmpty
    key: str | None = None
    values: tuple[Any, ...] | None = None
    points: tuple[AxisPoint, ...] | None = None
    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False

    @model_validator(mode="after")
    def _check(self) -> "Axis":
        if self.low is not None or self.high is not None:
            self._check_range()
            return self
        if self.log or self.integer:
            raise Faults(
                [Fault(f"axis {self.name}", "log and integer apply only to a range with low and high")]
            )
        by_key, by_points = self.key is not None and self.values is not None, self.points is not None
        if by_key == by_points or (by_points and (self.key is not None or self.values is not None)):
            raise Faults([Fault(f"axis {self.name}", "must have either key and values, or points")])
        if not self.places:
            raise Faults([Fault(f"axis {self.name}", "is empty; give it at least one value")])
        return self

    def _check_range(self) -> None:
        fault = None
        if self.key is None or self.values is not None or self.points is not None:
            fault = "a range needs key, low and high, and cannot have values or points"
        elif self.low is None or self.high is None or not self.low < self.high:
            fault = "low must be below high"
        elif self.log and self.low <= 0:
            fault = "low must be above 0 if log is set"
        elif self.integer and not (self.low.is_integer() and self.high.is_integer()):
            fault = "low and high must be whole numbers if integer is set"
        if fault is not None:
            raise Faults([Fault(f"axis {self.name}", fault)])

    @model_serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """An axis without a range omits its keys, so that sweeps from before there were any stay the same."""
        ranged = ("low", "high", "log", "integer")
        return {key: value for key, value in write(self).items() if self.bounds or key not in ranged}

    @property
    def bounds(self) -> tuple[float, float] | tuple[int, int] | None:
        """The ends of a range; None where the axis is none."""
        if self.low is None or self.high is None:
            return None
        return (int(self.low), int(self.high)) if self.integer else (self.low, self.high)

    @property
    def places(self) -> tuple[AxisPoint, ...]:
        """The points of the axis, those of a single key labelled by their value; of a range its ends."""
        if self.points is not None:
            return self.points
        values = self.bounds or self.values or ()
        return tuple(
            AxisPoint(label=label, set={str(self.key): value})
            for label, value in zip(labels_of(values), values, strict=True)
        )

    def place(self, value: str | float) -> AxisPoint:
        """The place of a label, or of a number within a range."""
        if self.bounds is not None:
            return AxisPoint(label=label_of(value), set={str(self.key): value})
        return next(place for place in self.places if place.label == value)

    @property
    def keys(self) -> frozenset[str]:
        """The dotted keys that the axis sets."""
        return frozenset(key for place in self.places for key in place.set)


def labels_of(values: Sequence[object]) -> list[str]:
    """Values of a key as tables show them and tell them apart: text without quotes.

    A long value is cut at its end; where that makes two alike, in their middles, each followed by the first
    digits of its SHA-256.
    """
    shared = Counter(label for label, _ in {(label_of(value), repr(value)) for value in values})
    return [_cut_apart(value) if shared[label_of(value)] > 1 else label_of(value) for value in values]


def label_of(value: object) -> str:
    """A single value of a key; see `labels_of`."""
    return value if isinstance(value, str) else show(value)


def _cut_apart(value: object) -> str:
    if isinstance(value, str | float):
        return label_of(value)  # never cut
    text = json.dumps(value, default=str, ensure_ascii=False)
    digest = hashlib.sha256(text.encode()).hexdigest()[:6]
    return f"{text[:30]}…{text[-15:]} ({digest})"
