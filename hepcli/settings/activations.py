"""Names of activations: a part, and for `clipped_relu` its ceiling in brackets."""

import re
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError, PydanticKnownError

from hepcli.settings.parts import ACTIVATIONS, NOT_HOLOMORPHIC

SAME = "same"
_CLIPPED = "clipped_relu"
_WITH_CEILING = re.compile(rf"{_CLIPPED}\((.*)\)")


def split_activation(name: str) -> tuple[str, float | None]:
    """Tell the part that a name stands for from its ceiling.

    Args:
        name: such as `sigmoid` or `clipped_relu(2.5)`.

    Returns:
        The key of `ACTIVATIONS`, and the ceiling; None for parts without one.

    Raises:
        ValueError: the ceiling is no number.
    """
    match = _WITH_CEILING.fullmatch(name)
    return (_CLIPPED, float(match[1])) if match else (name, None)


def is_holomorphic(name: str) -> bool:
    """Whether an activation continues to complex states."""
    return split_activation(name)[0] not in NOT_HOLOMORPHIC


def _checked(name: object) -> object:
    """The rule of a key that names an activation."""
    choices = ", ".join(f"{part}(CEILING)" if part == _CLIPPED else part for part in ACTIVATIONS)
    if not isinstance(name, str):
        raise PydanticKnownError("literal_error", {"expected": choices})
    try:
        part, ceiling = split_activation(name)
    except ValueError:
        part, ceiling = _CLIPPED, None
    if part not in ACTIVATIONS:
        raise PydanticKnownError("literal_error", {"expected": choices})
    if part == _CLIPPED and (ceiling is None or not 0 < ceiling < float("inf")):
        raise PydanticCustomError("ceiling", "needs a ceiling above 0, such as clipped_relu(2.5)")
    return name


ActivationName = Annotated[str, BeforeValidator(_checked)]
LayerActivationName = Annotated[str, BeforeValidator(lambda name: name if name == SAME else _checked(name))]
"""An activation of a layer by itself, or `same` as that of the network."""
