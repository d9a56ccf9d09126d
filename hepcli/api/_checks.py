"""Whether a user's own components return what they must; shapes are known before anything runs."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax import Array

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
)
from hepcli.errors import CodeError
from hepcli.networks import Connection, LayerKind, Loss
from hepcli.settings import RelaxationSettings, Shape

_OPTIMIZER, _SOLVER, _KIND, _ESTIMATOR, _TRACKER = (
    f"See help(hepcli.register_{part})."
    for part in ("optimizer", "solver", "layer_kind", "estimator", "tracker")
)


def check(is_right: bool, what: str, wanted: str, part: object) -> None:
    """Raise CodeError unless an object is what can be registered."""
    if not is_right:
        raise CodeError(
            f"{what} must be {wanted}, not {type(part).__name__}.", "Register an object of that type."
        )


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


def check_members(what: str, part: object, names: tuple[str, ...], advice: str = _KIND) -> None:
    """Raise CodeError where an object lacks attributes."""
    if missing := [name for name in names if not hasattr(part, name)]:
        raise CodeError(f"{what}: {part!r} lacks {', '.join(missing)}.", advice)


def checked_loss(name: str, loss: Loss) -> Loss:
    """The loss, refused where its value or its derivative has another shape than it must."""

    @functools.wraps(loss.value)
    def value(output: Any, targets: Any) -> Any:
        result = loss.value(output, targets)
        _check_shape(f"the value of loss {name}", loss.value, result, output.shape[:-1])
        return result

    @functools.wraps(loss.derivative)
    def derivative(output: Any, targets: Any) -> Any:
        result = loss.derivative(output, targets)
        _check_shape(f"the derivative of loss {name}", loss.derivative, result, output.shape)
        return result

    return Loss(value, derivative)


def checked_measure(name: str, measure: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The measure, refused where it is not one real number for each example."""

    def checked(measured: Any) -> Any:
        values = measure(measured)
        if np.shape(values) != measured.own.phase.residual.shape or np.iscomplexobj(values):
            kind = "complex numbers" if np.iscomplexobj(values) else f"an array of shape {np.shape(values)}"
            raise CodeError(
                f"{defined_at(measure)}: measure {name} returned {kind}.",
                "Return one real number for each example.",
            )
        return values

    return checked


def checked_signal(name: str, signal: ErrorSignal, *, has_record: bool) -> ErrorSignal:
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
        shapes = {layer: np.shape(e) for layer, e in vector.items()}
        if shapes != wanted:
            raise CodeError(f"{place} returned shapes {shapes}, not {wanted}.", _ESTIMATOR)
        if not all(np.issubdtype(jax.numpy.result_type(e), np.floating) for e in vector.values()):
            types = {layer: _array_type(e) for layer, e in vector.items()}
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


def checked_estimator(name: str, estimator: Estimator) -> Estimator:
    """A whole estimator, refused where what it returns is no estimate of the network."""

    def estimate(problem: Problem) -> Estimate:
        place = f"{defined_at(estimator.estimate)}: estimator {name}"
        result = estimator.estimate(problem)
        if not isinstance(result, Estimate):
            raise CodeError(
                f"{place} must return a hepcli.engine.Estimate, not {type(result).__name__}.", _ESTIMATOR
            )
        zeros = problem.system.zero_state(problem.inputs)
        _check_like(f"{place} returned a state", result.state, zeros, _ESTIMATOR)
        _check_like(f"{place} returned a gradient", result.gradient_sum, problem.params, _ESTIMATOR)
        for vector in filter(None, (result.error_vector, result.signal)):
            _check_like(f"{place} returned a signal", vector, zeros, _ESTIMATOR)
        for record in (result.free, *filter(None, [result.nudged])):
            _check_report(f"{place} returned a record", record, next(iter(zeros.values()))[..., 0])
        return result._replace(num_learned=jax.numpy.asarray(result.num_learned, zeros["out"].dtype))

    return dataclasses.replace(estimator, estimate=estimate)


def _check_report(what: str, record: Any, residual: Array) -> None:
    """Check that a record is one of a phase, with a number for each example, as in `residual` (batch, …)."""
    if not isinstance(record, PhaseReport):
        raise CodeError(
            f"{what} that is a {type(record).__name__}, not a PhaseReport.",
            "Return report(phase), of hepcli.engine.",
        )
    batch = residual.shape[:1]
    if wrong := [f"{key} {np.shape(own)}" for key, own in record._asdict().items() if np.shape(own) != batch]:
        raise CodeError(f"{what} of shapes {', '.join(wrong)}, not {batch}.", _ESTIMATOR)


def checked_solver(name: str, make: Callable[[RelaxationSettings], Solver]) -> Callable[..., Solver]:
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
        return self.solver.memory

    def num_passes(self, dynamics: Dynamics, steps: int) -> int:
        return self.solver.num_passes(dynamics, steps)

    def step(self, dynamics: Dynamics, state: State, count: int | Array) -> State:
        result = self.solver.step(dynamics, state, count)
        _check_like(f"{self.place} makes a state", result, state, _SOLVER)
        return result


def checked_optimizer(
    name: str, make: Callable[..., optax.GradientTransformation]
) -> Callable[..., optax.GradientTransformation]:
    """What makes the optimiser, refused where it makes none, or one whose updates do not fit."""

    def checked(settings: Any, decay: optax.GradientTransformation) -> optax.GradientTransformation:
        place = f"{defined_at(make)}: optimiser {name}"
        made = make(settings, decay)
        if not isinstance(made, optax.GradientTransformation):
            raise CodeError(
                f"{place} must return an optax.GradientTransformation, not {type(made).__name__}.", _OPTIMIZER
            )
        inner = optax.with_extra_args_support(made)

        def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
            result, state = inner.update(updates, state, params, **extra)
            _check_like(f"{place} makes updates", result, updates, _OPTIMIZER)
            return result, state

        return optax.GradientTransformationExtraArgs(inner.init, update)

    return checked


@dataclasses.dataclass(frozen=True)
class CheckedKind:
    """A kind of layers, refused where it drives a layer with another shape than it has.

    Attributes:
        kind: what it does.
        name: what it is called.
    """

    kind: LayerKind
    name: str

    def is_linear(self, connection: Connection) -> bool:
        """As the kind says."""
        return self.kind.is_linear(connection)

    def module(self, connection: Connection) -> tuple[Any, Shape]:
        """As the kind says."""
        return self.kind.module(connection)

    def up(self, connection: Connection, kernel: Array, below: Array) -> Array:
        """Drive of the layer above."""
        driven = self.kind.up(connection, kernel, below)
        self._check("up", connection, driven, below, connection.below, connection.above)
        return driven

    def down(self, connection: Connection, kernel: Array, below: Array, above: Array) -> Array:
        """Drive of the layer below."""
        driven = self.kind.down(connection, kernel, below, above)
        self._check("down", connection, driven, above, connection.above, connection.below)
        return driven

    def _check(
        self, way: str, connection: Connection, driven: Array, activity: Array, source: Shape, target: Shape
    ) -> None:
        wanted = (*activity.shape[: activity.ndim - len(source)], *target)
        if np.shape(driven) != wanted:
            raise CodeError(
                f"layer kind {self.name}: {way} of connection {connection.name} returned shape "
                f"{np.shape(driven)}, not {wanted}.",
                _KIND,
            )


def _check_shape(what: str, function: Callable[..., Any], result: Any, wanted: tuple[int, ...]) -> None:
    if np.shape(result) != wanted:
        raise CodeError(
            f"{defined_at(function)}: {what} has shape {np.shape(result)}, not {wanted}.",
            "The value of a loss is one number for each example, its derivative one for each output.",
        )


def _check_like(what: str, result: Any, model: Any, advice: str) -> None:
    """Check that a tree has the arrays of another, of its shapes and types."""
    arrays, wanted = (
        {jax.tree_util.keystr(path): _array_type(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}
        for tree in (result, model)
    )
    if arrays.keys() != wanted.keys():
        raise CodeError(f"{what} of {', '.join(arrays) or 'nothing'}, not of {', '.join(wanted)}.", advice)
    for path, own in arrays.items():
        if own != wanted[path]:
            raise CodeError(f"{what} with {path} = {own}, not {wanted[path]}.", advice)


def _array_type(leaf: Any) -> str:
    """Such as float32[100,512]."""
    return f"{jax.numpy.result_type(leaf)}[{','.join(map(str, np.shape(leaf)))}]"


class OwnTracker:
    """A tracker of the user's own, of which only `log` must be there."""

    def __init__(self, name: str, part: Callable[..., Any], *arguments: object) -> None:
        self._tracker = part(*arguments)
        check_members(f"{defined_at(part)}: tracker {name}", self._tracker, ("log",), _TRACKER)

    def log(self, line: Mapping[str, Any]) -> None:
        """Take a line of metrics.jsonl."""
        self._tracker.log(line)

    def figure(self, file: Path) -> None:
        """Take a figure, where it does."""
        if hasattr(self._tracker, "figure"):
            self._tracker.figure(file)

    def close(self, *, finished: bool) -> None:
        """End it, where it has an end."""
        if hasattr(self._tracker, "close"):
            self._tracker.close(finished=finished)
