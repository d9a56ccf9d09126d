"""How a component of the user's own comes to its name, and whether it is what it must be.

What a component returns is checked as it is traced: shapes are known before anything runs.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np

from hepcli import code
from hepcli.code import defined_at
from hepcli.errors import CodeError
from hepcli.settings import SAME, Option, Parts

Part = TypeVar("Part")


def check(is_right: bool, what: str, wanted: str, part: object) -> None:
    """Raise CodeError unless an object is what can be registered."""
    if not is_right:
        raise CodeError(
            f"{what} must be {wanted}, not {type(part).__name__}.", "Register an object of that type."
        )


def check_name(register: str, name: object) -> None:
    """Raise CodeError where a component was given to a decorator that waits for its name."""
    if not isinstance(name, str):
        what = f"{register} needs a name first, which is a str and not a {type(name).__name__}."
        raise CodeError(what, f'Such as hepcli.{register}("mine", …).')


def shape_of(result: Any) -> tuple[int, ...] | None:
    """The shape of an array or a number; None of anything else, such as a list of arrays."""
    if isinstance(result, int | float | complex):
        return ()
    shape: tuple[int, ...] | None = getattr(result, "shape", None)
    return shape


def check_takes(what: str, part: Callable[..., Any], *names: str) -> None:
    """Raise CodeError unless a function can be called with these arguments, as far as it can be known."""
    try:
        signature = inspect.signature(part)
    except (TypeError, ValueError):
        return  # such as a function of NumPy's
    try:
        signature.bind(*names)
    except TypeError as error:
        raise CodeError(
            f"{what} is called with ({', '.join(names)}), but takes {signature}: {error}.",
            f"Change it ({defined_at(part)}).",
        ) from error


def check_members(what: str, part: object, names: tuple[str, ...], advice: str) -> None:
    """Raise CodeError where an object lacks attributes."""
    if missing := [name for name in names if not hasattr(part, name)]:
        raise CodeError(f"{what}: {part!r} lacks {', '.join(missing)}.", advice)


def check_like(what: str, result: Any, model: Any, advice: str) -> None:
    """Check that a tree has the arrays of another, of its shapes and types."""
    arrays, wanted = (
        {jax.tree_util.keystr(path): array_type(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}
        for tree in (result, model)
    )
    if arrays.keys() != wanted.keys():
        raise CodeError(f"{what} of {', '.join(arrays) or 'nothing'}, not of {', '.join(wanted)}.", advice)
    for path, own in arrays.items():
        if own != wanted[path]:
            raise CodeError(f"{what} with {path} = {own}, not {wanted[path]}.", advice)


def array_type(leaf: Any) -> str:
    """Such as float32[100,512]."""
    return f"{jax.numpy.result_type(leaf)}[{','.join(map(str, np.shape(leaf)))}]"


def check_options(what: str, options: object) -> None:
    """Raise CodeError unless options have names that settings can have, and defaults of known types."""
    if not isinstance(options, Mapping) or not all(
        isinstance(key, str) and key.isidentifier() and type(value) in (bool, int, float, str)
        for key, value in options.items()
    ):
        raise CodeError(
            f"{what}: options = {options!r} is not a mapping of names to numbers, words or truth values.",
            'Such as options={"rate": 1.0}.',
        )


@dataclass(frozen=True)
class _WithOptions:
    """What makes a component that has settings of its own."""

    make: Callable[..., Any]
    options: Mapping[str, Option]

    def __call__(self, *arguments: Any) -> Any:
        return self.make(*arguments)


def decorator(
    parts: Parts,
    name: str,
    *arguments: str,
    checked: Callable[[str, Any], Any] | None = None,
    options: Mapping[str, Option] | None = None,
) -> Callable[[Part], Part]:
    """What registers a callable among `parts` once it is known to take these arguments; see `register_…`."""
    check_options(f"{parts.kind} {name}", options or {})
    if name == SAME:
        raise CodeError(f'{parts.kind} "{name}": settings use this word already.', "Choose another.")

    def decorate(part: Part) -> Part:
        check(callable(part), f"{parts.kind} {name}", "a function", part)
        check_takes(f"{parts.kind} {name}", part, *arguments)  # type: ignore[arg-type]
        made: Any = part if checked is None else checked(name, part)
        code.register(parts, name, _WithOptions(made, dict(options)) if options else made)
        return part

    return decorate
