"""From pydantic's errors to faults in words."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from hepcli.files import legible
from hepcli.settings import Fault, Faults, assigned, did_you_mean

_IN_LIST = re.compile(r" [^.]*(?=\.)")  # the name of a table in a list of them, as `_dotted` writes it


def undecodable(value: object, key: str = "") -> Iterator[Fault]:
    """What no file of ours can hold, in tables and whatever is in them: texts whose bytes are not UTF-8."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from undecodable(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from undecodable(inner, key)
    elif isinstance(value, str) and (shown := legible(value)) != value:
        yield Fault(assigned(legible(key), shown), "is not UTF-8")


def nearest_key(key: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?` for a dotted key, trying the name alone before the whole key.

    The name alone comes first because a right name in the wrong table, or in none, is the
    commonest slip: `free_steps` for `relaxation.free_steps`. In a list of tables those beside it come first.
    Within a table names alone are compared: that of the table makes all keys in it look alike.
    """
    keys = [known_key for known_key in known if not key.startswith(f"{known_key}.")]  # not its own table
    table, _, name = _IN_LIST.sub("", key).rpartition(".")
    beside = {own.rpartition(".")[2]: own for own in keys if own.rpartition(".")[0] == table}
    in_table = _nearest_name(name, beside)
    if in_table and _IN_LIST.search(key):
        return in_table
    same_name = [known_key for known_key in keys if known_key.rpartition(".")[2] == name]
    if len(same_name) == 1:
        return f"; did you mean {same_name[0]}?"
    if in_table:
        return in_table
    if hint := did_you_mean(key, same_name or [own for own in keys if own not in beside.values()]):
        return hint
    return _nearest_name(name, {known_key.rpartition(".")[2]: known_key for known_key in keys})


def _nearest_name(name: str, keys: Mapping[str, str]) -> str:
    """`nearest_key` for a name, of the names of keys: one that begins with it, has it for its initials, as
    `learning_rate` has lr, or as a word, or else looks like it."""
    near = [own for own in keys if own.startswith(name) and len(name) > 1]
    near += [own for own in keys if "_" in own and "".join(word[0] for word in own.split("_")) == name]
    near += [own for own in keys if name in own.split("_")]
    near += difflib.get_close_matches(name, list(keys), n=1)
    return f"; did you mean {keys[near[0]]}?" if near else ""


def describe(error: ValidationError, tables: Mapping[str, object], known_keys: Iterable[str]) -> list[Fault]:
    """Turn a pydantic error into faults.

    Args:
        error: what validation raised.
        tables: the tables that were validated.
        known_keys: every dotted key that exists, for the nearest match.

    Returns:
        The faults, in pydantic's order.
    """
    keys = list(known_keys)
    faults: list[Fault] = []
    for detail in error.errors(include_url=False):
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, Faults):
            faults.extend(cause.faults)
        else:
            faults.append(_translate(detail, tables, keys))
    return faults


def _translate(detail: Any, tables: Mapping[str, object], keys: list[str]) -> Fault:
    """Word one pydantic error (an `ErrorDetails`, whose context depends on its type)."""
    key = _dotted(detail["loc"], tables) or "configuration"
    kind: str = detail["type"]
    value = detail["input"]
    if kind == "union_tag_invalid":  # the kind of a layer
        given = value["kind"]
        return Fault(assigned(f"{key}.kind", given), _choice(detail["ctx"]["expected_tags"], given))
    if kind == "missing":
        return Fault(key, "is required", True)
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        what = "table" if isinstance(value, dict) else "key"
        shown = key if isinstance(value, dict) else assigned(key, value)
        return Fault(shown, f"there is no such {what}{nearest_key(key, keys)}", True)
    return Fault(assigned(key, value), _rule(kind, detail.get("ctx", {}), value) or detail["msg"])


def _dotted(location: tuple[int | str, ...], tables: Mapping[str, object]) -> str:
    """Join a pydantic location, without the union tags it puts between the real keys."""
    parts: list[str] = []
    here: object = tables
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if isinstance(here, dict) and part not in here and not last:
            continue
        if isinstance(here, dict):
            here = here.get(part)
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
            if isinstance(here, dict):  # of a list of tables, such as [[axis]]: by its name, else its number
                name = here.get("name") or here.get("label") or part + 1
                parts[-1:] = [f"{parts[-1]} {name}"] if parts else [str(name)]
                continue
        else:
            break  # a plain value has no parts: only a tag can follow
        parts.append(str(part))
    return ".".join(parts)


_TYPE_RULES = {
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "is too large",
    "float_type": "must be a number, written like 0.5 or 1e-3",
    "bool_type": "must be true or false",
    "string_type": "must be a string",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "dataclass_type": "must be a table",
    "dict_type": "must be a table",
    "tuple_type": 'must be a list, written like [1, 2] or ["a", "b"]',
}
_LIMIT_RULES = {
    "greater_than_equal": ("ge", "must be at least"),
    "greater_than": ("gt", "must be greater than"),
    "less_than_equal": ("le", "must be at most"),
    "less_than": ("lt", "must be less than"),
}


def _rule(kind: str, context: Mapping[str, Any], value: object) -> str | None:
    """Return what is allowed for a pydantic error type, or None where pydantic's words must do."""
    if kind in _LIMIT_RULES:
        name, words = _LIMIT_RULES[kind]
        limit = context[name]
        return f"{words} {limit:g}" if isinstance(limit, float) else f"{words} {limit}"
    if kind == "literal_error":
        return _choice(context["expected"], value)
    return _TYPE_RULES.get(kind)


def _choice(expected: str, value: object) -> str:
    """Say what a value must be one of; pydantic gives that only as words: 'hep', 'rbp' or 'bptt'."""
    choices = expected.replace("'", "").replace(" or ", ", ").split(", ")
    hint = did_you_mean(value, choices) if isinstance(value, str) else ""
    rule = f"must be one of {', '.join(choices)}" if len(choices) > 1 else f"must be {choices[0]}"
    return rule + hint
