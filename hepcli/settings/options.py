"""Settings of a component of a user's own, in the table that chooses it, such as `gradient.options`."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, ValidationInfo

from hepcli.settings.faults import Fault, Faults, assigned, did_you_mean
from hepcli.settings.parts import ESTIMATORS, OPTIMIZERS, SOLVERS, Option, Parts

CHOOSERS: Mapping[str, tuple[str, Parts]] = {
    "gradient": ("method", ESTIMATORS),
    "optimizer": ("name", OPTIMIZERS),
    "relaxation": ("solver", SOLVERS),
}
"""Tables with options, and the key in each that chooses the component they belong to."""
OptionsByName = Annotated[Mapping[str, Option], Field(validate_default=True)]


class Options(dict[str, Option]):
    """The options of a component; hashable, since programs are kept by what they depend on."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


def checked_options(table: str, given: Mapping[str, Option], info: ValidationInfo) -> Options:
    """Check the options of a table and complete them; those of a component that is not at hand pass.

    Args:
        table: such as `gradient`.
        given: what is set.
        info: the keys that stand before.

    Returns:
        All options of the component.

    Raises:
        Faults: it has no such options, or of another type.
    """
    key, parts = CHOOSERS[table]
    chosen = info.data.get(key)
    known = {} if chosen is None else parts.options_of(chosen)
    if not known:
        return Options(given)  # new runs have none there (`new_run_faults`)
    options, faults = Options(known), []
    for name, value in given.items():
        kind = type(known.get(name))
        place = assigned(f"{table}.options.{name}", value)
        if name not in known:
            faults.append(Fault(place, f"{chosen} has no such option{did_you_mean(name, known)}", True))
        elif type(value) is kind or (kind is float and type(value) is int):
            options[name] = kind(value)
        else:
            faults.append(Fault(place, f"must be of type {kind.__name__}"))
    if faults:
        raise Faults(faults)
    return options
