"""Estimators and solvers of your own."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

import jax
import numpy as np
from jax import Array

from hepcli import code
from hepcli.api._registration import (
    Part,
    array_type,
    check,
    check_like,
    check_members,
    check_name,
    check_options,
    check_takes,
    decorator,
    shape_of,
)
from hepcli.code import defined_at
from hepcli.engine import (
    Dynamics,
    ErrorSignal,
    Estimate,
    Estimator,
    FreePhase,
    PhaseReport,
    Problem,
    Solver,
    State,
    local_learning,
)
from hepcli.errors import CodeError
from hepcli.settings import ESTIMATORS, SOLVERS, Option, RelaxationSettings, Traits

_CHOICES = {
    name: get_args(hint) for name, hint in get_type_hints(Traits).items() if get_origin(hint) is Literal
}
_ESTIMATOR = "See help(hepcli.register_estimator)."
_SOLVER = "See help(hepcli.register_solver)."


def register_estimator(name: str, **traits: Any) -> Callable[[Part], Part]:
    """Register an estimator of the learning signal, for `gradient.method`.

    What is decorated is either a function from the end of a free phase (`hepcli.engine.FreePhase`) to the
    error vector, real (batch, *units) per layer, and the record of its phases, or with
    ``has_nudged_record=False`` None; or a whole `hepcli.engine.Estimator`.

    Args:
        name: lower-case letters, digits and _.
        **traits: of a function, fields of `hepcli.settings.Traits`, such as ``uses_circle=True``. Random
            numbers take ``is_random=True`` and, for each example, a key of `hepcli.engine.random_keys`. With
            ``options={"rate": 1.0}``, `gradient.options.rate` is a key like others, for --set and sweeps, and
            ``free.problem.signal_settings.options["rate"]`` its value.

    Raises:
        CodeError: the name is invalid or taken, what is registered cannot be called as described, or a trait
            is unknown, of the wrong type, or given for a whole Estimator.

    Example:
        Central differences at β and β/2, extrapolated to β = 0: an error of β⁴ with real nudges alone.

        >>> import jax.numpy as jnp
        >>> from hepcli.engine import activities, nudged_phases, report
        >>> @hepcli.register_estimator("extrapolated", uses_circle=True)
        ... def extrapolated(free):
        ...     beta = free.problem.signal_settings.beta_radius
        ...     phase = nudged_phases(free)(beta * jnp.array([1.0, -1.0, 0.5, -0.5]))
        ...     signal = {
        ...         name: (4 * (r[2] - r[3]) / beta - (r[0] - r[1]) / (2 * beta)) / 3
        ...         for name, r in activities(free.problem, phase.state).items()
        ...     }
        ...     return signal, report(phase)
        >>> small = {"network.layers.l1.units": 16, "network.layers.l2.units": 12}
        >>> model = hepcli.init_model("quickstart", small)
        >>> images, labels, *_ = model.split("train")
        >>> settled = {"relaxation.free_steps": 300, "relaxation.nudged_steps": 300}
        >>> exact, own, plain = (
        ...     hepcli.estimate(model, images[:8], labels[:8], method, settled).error_vector["l1"]
        ...     for method in ("hep_exact", "extrapolated", "hep")
        ... )
        >>> bool(abs(own - exact).max() < 0.2 * abs(plain - exact).max())
        True
    """

    check_name("register_estimator", name)

    def decorate(part: Part) -> Part:
        if isinstance(part, Estimator):
            if traits:
                raise CodeError(
                    f"estimator {name}: {', '.join(traits)} would be ignored; an Estimator has its own.",
                    "Give them to the Estimator.",
                )
            _check_traits(name, part)
            code.register(ESTIMATORS, name, _checked_estimator(name, part))
            return part
        check(callable(part), f"estimator {name}", "a function or a hepcli.engine.Estimator", part)
        check_takes(f"estimator {name}", part, "free")  # type: ignore[arg-type]
        has_record = traits.get("has_nudged_record", True)
        signal = _checked_signal(name, part, has_record=has_record)  # type: ignore[arg-type]
        try:
            estimator = Estimator(local_learning(signal), signal, **traits)
        except TypeError as error:
            raise CodeError(f"estimator {name}: {error}", "See help(hepcli.settings.Traits).") from error
        _check_traits(name, estimator)
        code.register(ESTIMATORS, name, estimator)
        return part

    return decorate


def register_solver(name: str, options: Mapping[str, Option] | None = None) -> Callable[[Part], Part]:
    """Register a solver, for `relaxation.solver`.

    What is decorated is a function from `hepcli.settings.RelaxationSettings` to a `hepcli.engine.Solver`, or
    a class constructed from them.

    Args:
        name: lower-case letters, digits and _.
        options: name to default of settings of its own: with ``{"share": 0.5}``, `relaxation.options.share`
            is a key like others, for --set and sweeps, and ``settings.options["share"]`` its value.

    Raises:
        CodeError: the name is invalid or taken, what is registered cannot be called as described, or an
            option has no default of a known type.

    Example:
        All layers at once, part of the way.

        >>> import jax
        >>> @hepcli.register_solver("damped", options={"share": 0.5})
        ... class Damped:
        ...     memory = 0
        ...     def __init__(self, settings):
        ...         self.share = settings.options["share"]
        ...     def num_passes(self, dynamics, steps):
        ...         return 2 * steps
        ...     def step(self, dynamics, state, count):
        ...         moved = dynamics.move(state, dynamics.layers, count, 0)
        ...         return jax.tree.map(lambda u, v: u + self.share * (v - u), state, moved)
        >>> small = {"network.layers.l1.units": 16, "network.layers.l2.units": 12}
        >>> model = hepcli.init_model("quickstart", small | {"relaxation.solver": "damped"})
        >>> bool(model.states(model.split("test").images[:8]).settled.all())
        True
    """
    check_name("register_solver", name)
    return decorator(SOLVERS, name, "settings", checked=_checked_solver, options=options)


def _check_traits(name: str, traits: Traits) -> None:
    """Raise CodeError where a trait is of another type than it must be, or no choice that there is."""
    for field in dataclasses.fields(Traits):
        value, kind = getattr(traits, field.name), type(field.default)
        if field.name == "options":
            check_options(f"estimator {name}", value)
            continue
        if field.name in _CHOICES:
            is_right, wanted = value in _CHOICES[field.name], " or ".join(_CHOICES[field.name])
        else:
            is_right = isinstance(value, kind) or (kind is float and isinstance(value, int))
            wanted = f"of type {kind.__name__}"
        if not is_right:
            what = f"estimator {name}: {field.name} = {value!r} is not {wanted}."
            raise CodeError(what, "See help(hepcli.settings.Traits).")


def _checked_signal(name: str, signal: ErrorSignal, *, has_record: bool) -> ErrorSignal:
    """The error signal, refused where it is none of the network, or has no record where one is promised."""

    def checked(free: FreePhase) -> tuple[State, PhaseReport | None]:
        place = f"{defined_at(signal)}: estimator {name}"
        result = signal(free)
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], Mapping):
            raise CodeError(
                f"{place} must return an error vector per layer, and a record or None.", _ESTIMATOR
            )
        vector, record = result
        wanted = {layer: u.shape for layer, u in free.phase.state.items()}
        shapes = {layer: shape_of(e) for layer, e in vector.items()}
        if shapes != wanted:
            raise CodeError(f"{place} returned shapes {shapes}, not {wanted}.", _ESTIMATOR)
        if not all(np.issubdtype(jax.numpy.result_type(e), np.floating) for e in vector.values()):
            types = {layer: array_type(e) for layer, e in vector.items()}
            raise CodeError(f"{place} returned {types}; an error vector is real, of floats.", _ESTIMATOR)
        if (record is None) == has_record:
            raise CodeError(
                f"{place} returned {'no' if has_record else 'a'} record of its nudged phases.",
                "Return report(phase), of hepcli.engine, or register it with has_nudged_record=False."
                if has_record
                else "Return None in its place, or leave out has_nudged_record=False.",
            )
        if record is not None:
            _check_report(f"{place} returned a record", record, free.phase.residual)
        dtypes = {layer: u.dtype for layer, u in free.phase.state.items()}
        return {layer: jax.numpy.asarray(e, dtypes[layer]) for layer, e in vector.items()}, record

    return checked


def _checked_estimator(name: str, estimator: Estimator) -> Estimator:
    """A whole estimator, refused where what it returns is no estimate of the network."""

    def estimate(problem: Problem) -> Estimate:
        place = f"{defined_at(estimator.estimate)}: estimator {name}"
        result = estimator.estimate(problem)
        if not isinstance(result, Estimate):
            raise CodeError(
                f"{place} must return a hepcli.engine.Estimate, not {type(result).__name__}.", _ESTIMATOR
            )
        zeros = problem.system.zero_state(problem.inputs)
        check_like(f"{place} returned a state", result.state, zeros, _ESTIMATOR)
        check_like(f"{place} returned a gradient", result.gradient_sum, problem.params, _ESTIMATOR)
        for vector in filter(None, (result.error_vector, result.signal)):
            check_like(f"{place} returned a signal", vector, zeros, _ESTIMATOR)
        for record in (result.free, *filter(None, [result.nudged])):
            _check_report(f"{place} returned a record", record, next(iter(zeros.values()))[..., 0])
        return result._replace(num_learned=jax.numpy.asarray(result.num_learned, zeros["out"].dtype))

    signal = estimator.error_signal
    if signal is not None:
        signal = _checked_signal(name, signal, has_record=estimator.has_nudged_record)
    return dataclasses.replace(estimator, estimate=estimate, error_signal=signal)


def _check_report(what: str, record: Any, residual: Array) -> None:
    """Check that a record is one of a phase, with a number for each example, as in `residual` (batch, …)."""
    if not isinstance(record, PhaseReport):
        raise CodeError(
            f"{what} that is a {type(record).__name__}, not a PhaseReport.",
            "Return report(phase), of hepcli.engine.",
        )
    batch = residual.shape[:1]
    if wrong := [f"{key} {shape_of(own)}" for key, own in record._asdict().items() if shape_of(own) != batch]:
        raise CodeError(f"{what} of shapes {', '.join(wrong)}, not {batch}.", _ESTIMATOR)


def _checked_solver(name: str, make: Callable[[RelaxationSettings], Solver]) -> Callable[..., Solver]:
    """What makes the solver, refused where it makes none, or one whose steps are no states of the network."""

    def checked(settings: RelaxationSettings) -> Solver:
        solver, place = make(settings), f"{defined_at(make)}: solver {name}"
        check_members(place, solver, ("memory", "num_passes", "step"), _SOLVER)
        return _CheckedSolver(solver, place)

    return checked


@dataclasses.dataclass(frozen=True)
class _CheckedSolver:
    solver: Solver
    place: str

    @property
    def memory(self) -> int:
        return self._count("memory", self.solver.memory)

    def num_passes(self, dynamics: Dynamics, steps: int) -> int:
        return self._count("num_passes", self.solver.num_passes(dynamics, steps))

    def _count(self, what: str, number: Any) -> int:
        if not isinstance(number, int | np.integer) or number < 0:
            raise CodeError(f"{self.place}: {what} is {number!r}, not a whole number.", _SOLVER)
        return int(number)

    def step(self, dynamics: Dynamics, state: State, count: int | Array) -> State:
        result = self.solver.step(dynamics, state, count)
        check_like(f"{self.place} makes a state", result, state, _SOLVER)
        return result
