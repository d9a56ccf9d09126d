"""What the values of many keys have in common."""

from collections.abc import Callable
from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticKnownError

from hepcli.settings.parts import Parts

STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
"""Of every table: no unknown keys, no conversions, no changes, no NaN."""

_MOST = 2**31 - 1  # what an int32 counts to, as steps are counted on devices
Count = Annotated[int, Field(ge=1, le=_MOST)]
CountOrNone = Annotated[int, Field(ge=0, le=_MOST)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
NonNegativeFloat = Annotated[float, Field(ge=0.0)]
# A random key holds 32 bits of seed; larger seeds would silently repeat smaller ones.
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


def name_of(parts: Parts, or_else: Callable[[str], bool] = lambda _name: False) -> BeforeValidator:
    """The rule of a key that names one of `parts`, or what else may be called so."""

    def check(name: object) -> object:
        if not isinstance(name, str) or not (name in parts or or_else(name)):
            raise PydanticKnownError("literal_error", {"expected": ", ".join(parts)})
        return name

    return BeforeValidator(check)
