"""Optimisers, data sets, measures and trackers of your own."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from hepcli import code
from hepcli.api._registration import (
    Part,
    check,
    check_like,
    check_members,
    check_name,
    check_takes,
    decorator,
    shape_of,
)
from hepcli.code import defined_at
from hepcli.data import OwnDataset, SplitName
from hepcli.errors import CodeError
from hepcli.settings import DATASETS, MEASURES, OPTIMIZERS, RESERVED, TRACKERS, Measure, Option

_TRACKER = "See help(hepcli.register_tracker)."
_OPTIMIZER = "See help(hepcli.register_optimizer)."


def register_dataset(name: str) -> Callable[[Part], Part]:
    """Register a data set, for `data.name`.

    The decorated function takes "train" or "test" and returns images, uint8 (examples, height, width,
    channels) or without the last axis, and labels, whole numbers from 0. It is called when the data are first
    needed, and must give the same examples every time.

    Args:
        name: lower-case letters, digits and _.

    Raises:
        CodeError: the name is invalid or taken, or what is registered cannot be called as described.

    Example:
        Stripes of three widths.

        >>> import numpy as np
        >>> @hepcli.register_dataset("stripes")
        ... def stripes(split):
        ...     rng = np.random.default_rng(split == "test")
        ...     labels = rng.integers(0, 3, 500)
        ...     columns = np.arange(12) + rng.integers(0, 12, (500, 1))
        ...     rows = 255 * (columns // (labels[:, None] + 1) % 2)
        ...     return np.repeat(rows[:, None], 12, axis=1).astype(np.uint8), labels
        >>> hepcli.init_model("quickstart", {"data.name": "stripes"}).split("test").images.shape
        (500, 12, 12, 1)
    """

    check_name("register_dataset", name)

    def decorate(part: Part) -> Part:
        check(callable(part), f"data set {name}", "a function", part)
        load: Callable[[SplitName], tuple[Any, Any]] = part  # type: ignore[assignment]
        check_takes(f"data set {name}", load, "split")
        code.register(DATASETS, name, OwnDataset(name, load, code.defined_at(load)))
        return part

    return decorate


def register_measure(
    name: str, title: str | None = None, short: str | None = None, pattern: str = ".4g", of_all: bool = False
) -> Callable[[Part], Part]:
    """Register a measure, for `hep measure-asymmetry`, `run.measure_examples` and sweeps.

    The decorated function takes a `hepcli.training.Measured` and returns a value per example (batch,), real.

    Args:
        name: its key in records; lower-case letters, digits and _.
        title: in tables and figures, with its unit; None is the name.
        short: at the head of a narrow column; None is the name.
        pattern: format of a number.
        of_all: whether examples without a fixed point count too.

    Raises:
        CodeError: the name is invalid, taken or a key of the records already, the pattern is no number
            format, or what is registered cannot be called as described.

    Example:
        The largest activity of the hidden units at the run's own free state.

        >>> import jax.numpy as jnp
        >>> from hepcli.engine import activities
        >>> @hepcli.register_measure("largest", "largest hidden activity")
        ... def largest(measured):
        ...     own = measured.own  # the run's own free phase: its problem, and its phase with the state
        ...     return jnp.abs(activities(own.problem, own.phase.state)["l1"]).max(axis=-1)
        >>> small = {"network.layers.l1.units": 16, "network.layers.l2.units": 12}
        >>> bool(0 < hepcli.measure(hepcli.init_model("quickstart", small), 4)["largest"] <= 1)
        True
    """
    check_name("register_measure", name)
    if name in RESERVED:
        raise CodeError(f'"{name}" is a key of the records already.', "Choose another name.")
    try:
        format(0.5, pattern)
    except (TypeError, ValueError) as error:
        raise CodeError(
            f"measure {name}: pattern = {pattern!r} is no format of a number: {error}.", 'Such as ".2f".'
        ) from error

    def decorate(part: Part) -> Part:
        check(callable(part), f"measure {name}", "a function", part)
        function: Callable[[Any], Any] = part  # type: ignore[assignment]
        check_takes(f"measure {name}", function, "measured")
        own = Measure(name, title or name, short or name, _checked_measure(name, function), pattern, of_all)
        code.register(MEASURES, name, own)
        return part

    return decorate


def register_tracker(name: str) -> Callable[[Part], Part]:
    """Register a tracker, for `run.trackers`.

    What is decorated is a class, or a function that returns an object: called with the configuration
    (`hepcli.config.Config`), the run folder (a path) and the lines of metrics.jsonl that there are already
    (of a resumed run), as dictionaries. Its `log(line)` is given every later one; where it has
    `figure(file)`, that gets the curves as PNG, and `close(finished=…)` is called at the end. One that fails
    midway is dropped with a notice.

    Args:
        name: lower-case letters, digits and _.

    Raises:
        CodeError: the name is invalid or taken, or what is registered cannot be called as described.

    Example:
        >>> @hepcli.register_tracker("angles")
        ... class Angles:
        ...     def __init__(self, config, folder, history):
        ...         self.file = folder / "angles.txt"
        ...     def log(self, line):
        ...         with self.file.open("a") as file:
        ...             print(line["epoch"], line["weight_angle_deg"], file=file)
        >>> small = {"network.layers.l1.units": 16, "data.batch_size": 500, "run.trackers": ["angles"]}
        >>> done = hepcli.train("quickstart", small, out=folder / "tracked", epochs=1)
        >>> (done.folder / "angles.txt").read_text()[:2]
        '1 '
    """

    check_name("register_tracker", name)

    def decorate(part: Part) -> Part:
        check(callable(part), f"tracker {name}", "a class or a function", part)
        own: Callable[..., Any] = part  # type: ignore[assignment]
        check_takes(f"tracker {name}", own, "config", "folder", "history")

        def begin(config: Any, folder: Any, history: Any, _: object) -> _OwnTracker:
            return _OwnTracker(name, own, config, folder.path, copy.deepcopy(history))

        code.register(TRACKERS, name, begin)
        return part

    return decorate


def _checked_measure(name: str, measure: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The measure, refused where it is not one real number for each example."""

    def checked(measured: Any) -> Any:
        values = measure(measured)
        shape = shape_of(values)
        if shape != measured.own.phase.residual.shape or np.iscomplexobj(values):
            kind = f"a {type(values).__name__}" if shape is None else f"an array of shape {shape}"
            kind = "complex numbers" if shape is not None and np.iscomplexobj(values) else kind
            raise CodeError(
                f"{defined_at(measure)}: measure {name} returned {kind}.",
                "Return one real number for each example.",
            )
        return values

    return checked


class _OwnTracker:
    """A tracker of the user's own, of which only `log` must be there."""

    def __init__(self, name: str, part: Callable[..., Any], *arguments: object) -> None:
        self._tracker = part(*arguments)
        check_members(f"{defined_at(part)}: tracker {name}", self._tracker, ("log",), _TRACKER)

    def log(self, line: Mapping[str, Any]) -> None:
        """Take a line of metrics.jsonl."""
        self._tracker.log(copy.deepcopy(line))  # the run's records stay what they are

    def figure(self, file: Path) -> None:
        """Take a figure, where it does."""
        if hasattr(self._tracker, "figure"):
            self._tracker.figure(file)

    def close(self, *, finished: bool) -> None:
        """End it, where it has an end."""
        if hasattr(self._tracker, "close"):
            self._tracker.close(finished=finished)


def register_optimizer(name: str, options: Mapping[str, Option] | None = None) -> Callable[[Part], Part]:
    """Register an optimiser, for `optimizer.name`.

    The decorated function takes `hepcli.settings.OptimizerSettings` and the weight decay, an Optax
    transformation, and returns the Optax transformation that gives the direction of the updates, such as
    `optax.scale_by_adam()`; hep itself subtracts them, times the learning rate of the schedule, so that whole
    optimisers, such as `optax.adam(…)`, are refused. With ``--together`` the settings hold traced numbers.

    Args:
        name: lower-case letters, digits and _.
        options: name to default of settings of its own: with ``{"b1": 0.9}``, `optimizer.options.b1` is a key
            like others, for --set and sweeps, and ``settings.options["b1"]`` its value.

    Raises:
        CodeError: the name is invalid or taken, what is registered cannot be called as described, or an
            option has no default of a known type.

    Example:
        >>> import optax
        >>> @hepcli.register_optimizer("lion", options={"b1": 0.9})
        ... def lion(settings, decay):
        ...     return optax.chain(optax.scale_by_lion(b1=settings.options["b1"]), decay)
    """
    check_name("register_optimizer", name)
    return decorator(OPTIMIZERS, name, "settings", "decay", checked=_checked_optimizer, options=options)


def _checked_optimizer(
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
        if isinstance(settings.learning_rate, float) and _descends(make(settings, optax.identity())):
            raise CodeError(
                f"{place} makes updates against the gradient; hep subtracts them itself, times the learning "
                "rate, so that the loss would grow.",
                "Return the direction alone, such as optax.scale_by_adam() in place of optax.adam(…).",
            )

        def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
            try:
                result, state = inner.update(updates, state, params, **extra)
            except TypeError as error:  # such as of an argument that hep does not give
                raise CodeError(f"{place}: {error}", _OPTIMIZER) from error
            check_like(f"{place} makes updates", result, updates, _OPTIMIZER)
            return result, state

        return optax.GradientTransformationExtraArgs(inner.init, update)

    return checked


def _descends(direction: optax.GradientTransformation) -> bool:
    """Whether the first update leads against the gradient, as those of whole optimisers do."""
    inner = optax.with_extra_args_support(direction)
    with jax.ensure_compile_time_eval():
        gradient = {"kernel": jax.numpy.linspace(-0.1, 0.2, 6).reshape(2, 3)}
        params = jax.tree.map(jax.numpy.ones_like, gradient)
        try:
            updates, _ = inner.update(gradient, inner.init(params), params)
            along = jax.numpy.vdot(updates["kernel"], gradient["kernel"])
        except (AttributeError, KeyError, TypeError, ValueError):  # not for these: the real ones will tell
            return False
        return bool(along.real < 0)
