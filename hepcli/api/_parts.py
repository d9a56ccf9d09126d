"""Your own components, from a --code file or from Python."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

from hepcli import code
from hepcli.api._checks import (
    CheckedKind,
    OwnTracker,
    check,
    check_members,
    check_takes,
    checked_estimator,
    checked_loss,
    checked_measure,
    checked_optimizer,
    checked_signal,
    checked_solver,
)
from hepcli.data import OwnDataset, SplitName
from hepcli.engine import Estimator, local_learning
from hepcli.errors import CodeError
from hepcli.networks import LayerKind, Loss
from hepcli.settings import (
    ACTIVATIONS,
    DATASETS,
    ESTIMATORS,
    LAYER_KINDS,
    LAYERS,
    LOSSES,
    MEASURES,
    OPTIMIZERS,
    RESERVED,
    SAME,
    SOLVERS,
    TRACKERS,
    Measure,
    Parts,
)

Part = TypeVar("Part")


def register_activation(name: str) -> Callable[[Part], Part]:
    """Register an activation, for `network.activation`.

    The decorated function takes an array, real or complex, of any shape, and acts on each element. If it is
    not holomorphic, as small circles around the real axis show, nudges must be real (METHOD §1).

    Args:
        name: lower-case letters, digits and _.

    Raises:
        CodeError: the name is taken.

    Example:
        >>> import jax.numpy as jnp
        >>> @hepcli.register_activation("sine")
        ... def sine(z):
        ...     return jnp.sin(z)
        >>> model = hepcli.init_model("quickstart", {"network.activation": "sine"})
        >>> model.network.activation("l1", jnp.zeros(2)).tolist()
        [0.0, 0.0]
    """
    return _decorator(ACTIVATIONS, name, "z")


def register_loss(name: str, loss: Loss) -> None:
    """Register a loss, for `network.loss`.

    Args:
        name: lower-case letters, digits and _.
        loss: `hepcli.networks.Loss(value, derivative)` of output and targets (batch, classes); the derivative
            with respect to the output must be holomorphic in it where nudges are complex.

    Raises:
        CodeError: the name is taken, or `loss` is not a Loss.

    Example:
        A squared error that counts the first class twice.

        >>> import jax.numpy as jnp
        >>> from hepcli.networks import Loss
        >>> def weights(targets):
        ...     return 1 + targets[..., :1]
        >>> def value(output, targets):
        ...     return jnp.sum(weights(targets) * (output - targets) ** 2, -1) / 2
        >>> def derivative(output, targets):
        ...     return weights(targets) * (output - targets)
        >>> hepcli.register_loss("weighted", Loss(value, derivative))
        >>> model = hepcli.init_model("quickstart", {"network.loss": "weighted"})
    """
    check(isinstance(loss, Loss) and all(map(callable, loss)), f"loss {name}", "a hepcli.networks.Loss", loss)
    for part, function in loss._asdict().items():
        check_takes(f"the {part} of loss {name}", function, "output", "targets")
    code.register(LOSSES, name, checked_loss(name, loss))


def register_estimator(name: str, **traits: Any) -> Callable[[Part], Part]:
    """Register an estimator of the learning signal, for `gradient.method`.

    What is decorated is either a function from the end of a free phase (`hepcli.engine.FreePhase`) to the
    error vector, real (batch, *units) per layer, and the record of its phases, or with
    ``has_nudged_record=False`` None; or a whole `hepcli.engine.Estimator`.

    Args:
        name: lower-case letters, digits and _.
        **traits: of a function, fields of `hepcli.settings.Traits`, such as ``uses_circle=True``.

    Raises:
        CodeError: the name is taken, or a trait is unknown.

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

    def decorate(part: Part) -> Part:
        if isinstance(part, Estimator):
            if traits:
                raise CodeError(
                    f"estimator {name}: {', '.join(traits)} would be ignored; an Estimator has its own.",
                    "Give them to the Estimator.",
                )
            code.register(ESTIMATORS, name, checked_estimator(name, part))
            return part
        check(callable(part), f"estimator {name}", "a function or a hepcli.engine.Estimator", part)
        check_takes(f"estimator {name}", part, "free")  # type: ignore[arg-type]
        has_record = traits.get("has_nudged_record", True)
        signal = checked_signal(name, part, has_record=has_record)  # type: ignore[arg-type]
        try:
            estimator = Estimator(local_learning(signal), signal, **traits)
        except TypeError as error:
            raise CodeError(f"estimator {name}: {error}", "See help(hepcli.settings.Traits).") from error
        code.register(ESTIMATORS, name, estimator)
        return part

    return decorate


def register_solver(name: str) -> Callable[[Part], Part]:
    """Register a solver, for `relaxation.solver`.

    What is decorated is a function from `hepcli.settings.RelaxationSettings` to a `hepcli.engine.Solver`, or
    a class constructed from them.

    Args:
        name: lower-case letters, digits and _.

    Raises:
        CodeError: the name is taken.

    Example:
        All layers at once, half of the way.

        >>> import jax
        >>> @hepcli.register_solver("damped")
        ... class Damped:
        ...     memory = 0
        ...     def __init__(self, settings):
        ...         self.order = settings.order
        ...     def num_passes(self, dynamics, steps):
        ...         return 2 * steps
        ...     def step(self, dynamics, state, count):
        ...         moved = dynamics.move(state, dynamics.layers, count, 0)
        ...         return jax.tree.map(lambda u, v: (u + v) / 2, state, moved)
        >>> small = {"network.layers.l1.units": 16, "network.layers.l2.units": 12}
        >>> model = hepcli.init_model("quickstart", small | {"relaxation.solver": "damped"})
        >>> bool(model.states(model.split("test").images[:8]).settled.all())
        True
    """
    return _decorator(SOLVERS, name, "settings", checked=checked_solver)


def register_layer_kind(name: str, settings: type, kind: LayerKind) -> None:
    """Register a kind of layer, for `network.layers.NAME.kind`.

    Args:
        name: lower-case letters, digits and _.
        settings: a frozen dataclass of the keys that [network.layers] may set for such a layer, with a field
            `kind` and the methods and class attributes of `hepcli.settings.DenseLayer`.
        kind: what its connections do.

    Raises:
        CodeError: the name is taken, or something is missing.

    Example:
        Units that receive from a tenth of the pixels, or units, below them.

        >>> from dataclasses import dataclass
        >>> import numpy as np
        >>> from hepcli.settings import LAYER_KINDS, DenseLayer
        >>> dense = LAYER_KINDS["dense"]
        >>> @dataclass(frozen=True, kw_only=True)
        ... class SparseLayer(DenseLayer):
        ...     kind: str = "sparse"
        ...     density: float = 0.1
        >>> class Sparse:
        ...     is_linear, module = dense.is_linear, dense.module
        ...     def mask(self, connection, kernel):
        ...         mask = np.random.default_rng(0).random(max(kernel.shape, kernel.shape[::-1]))
        ...         mask = mask < connection.layer.density
        ...         return mask if mask.shape == kernel.shape else mask.T
        ...     def up(self, connection, kernel, below):
        ...         return dense.up(connection, kernel * self.mask(connection, kernel), below)
        ...     def down(self, connection, kernel, below, above):
        ...         return dense.down(connection, kernel * self.mask(connection, kernel), below, above)
        >>> hepcli.register_layer_kind("sparse", SparseLayer, Sparse())
        >>> small = {"network.layers.l1.units": 16, "network.layers.l2.units": 12}
        >>> model = hepcli.init_model("quickstart", small | {"network.layers.l1.kind": "sparse"})
        >>> images, labels, *_ = model.split("train")
        >>> gradient = hepcli.estimate(model, images[:8], labels[:8]).gradient["in-l1"]["kernel"]
        >>> bool(0.8 < np.mean(gradient == 0) < 0.95)
        True
    """
    wanted = ("is_image", "size_key", "shape", "multiply_adds", "misfits", "__dataclass_fields__")
    check_members(f"layer kind {name}", settings, wanted)
    check_members(f"layer kind {name}", kind, ("is_linear", "module", "up", "down"))
    if "kind" not in {own.name for own in dataclasses.fields(settings)}:
        raise CodeError(f"layer kind {name}: its settings have no field kind.", f'Add kind: str = "{name}".')
    code.register(LAYER_KINDS, name, CheckedKind(kind, name))
    code.register(LAYERS, name, settings)


def register_optimizer(name: str) -> Callable[[Part], Part]:
    """Register an optimiser, for `optimizer.name`.

    The decorated function takes `hepcli.settings.OptimizerSettings` and the weight decay, an Optax
    transformation, and returns the Optax transformation that gives the direction of the updates; the learning
    rate and its schedule follow by themselves.

    Args:
        name: lower-case letters, digits and _.

    Raises:
        CodeError: the name is taken.

    Example:
        >>> import optax
        >>> @hepcli.register_optimizer("lion")
        ... def lion(settings, decay):
        ...     return optax.chain(optax.scale_by_lion(), decay)
    """
    return _decorator(OPTIMIZERS, name, "settings", "decay", checked=checked_optimizer)


def register_dataset(name: str) -> Callable[[Part], Part]:
    """Register a data set, for `data.name`.

    The decorated function takes "train" or "test" and returns images, uint8 (examples, height, width,
    channels) or without the last axis, and labels, whole numbers from 0. It is called when the data are first
    needed, and must give the same examples every time.

    Args:
        name: lower-case letters, digits and _.

    Raises:
        CodeError: the name is taken.

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
        CodeError: the name is taken, or is already a key of the records.

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
    if name in RESERVED:
        raise CodeError(f'"{name}" is a key of the records already.', "Choose another name.")

    def decorate(part: Part) -> Part:
        check(callable(part), f"measure {name}", "a function", part)
        function: Callable[[Any], Any] = part  # type: ignore[assignment]
        check_takes(f"measure {name}", function, "measured")
        own = Measure(name, title or name, short or name, checked_measure(name, function), pattern, of_all)
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
        CodeError: the name is taken.

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

    def decorate(part: Part) -> Part:
        check(callable(part), f"tracker {name}", "a class or a function", part)
        own: Callable[..., Any] = part  # type: ignore[assignment]
        check_takes(f"tracker {name}", own, "config", "folder", "history")

        def begin(config: Any, folder: Any, history: Any, _: object) -> OwnTracker:
            return OwnTracker(name, own, config, folder.path, history)

        code.register(TRACKERS, name, begin)
        return part

    return decorate


def _decorator(
    parts: Parts, name: str, *arguments: str, checked: Callable[[str, Any], Any] | None = None
) -> Callable[[Part], Part]:
    if name == SAME:
        raise CodeError(f'{parts.kind} "{name}": settings use this word already.', "Choose another.")

    def decorate(part: Part) -> Part:
        check(callable(part), f"{parts.kind} {name}", "a function", part)
        check_takes(f"{parts.kind} {name}", part, *arguments)  # type: ignore[arg-type]
        code.register(parts, name, part if checked is None else checked(name, part))
        return part

    return decorate
