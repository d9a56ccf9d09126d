"""Data sets, measures and trackers of your own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hepcli import code
from hepcli.api._registration import Part, check, check_members, check_takes
from hepcli.code import defined_at
from hepcli.data import OwnDataset, SplitName
from hepcli.errors import CodeError
from hepcli.settings import DATASETS, MEASURES, RESERVED, TRACKERS, Measure

_TRACKER = "See help(hepcli.register_tracker)."


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

        def begin(config: Any, folder: Any, history: Any, _: object) -> _OwnTracker:
            return _OwnTracker(name, own, config, folder.path, history)

        code.register(TRACKERS, name, begin)
        return part

    return decorate


def _checked_measure(name: str, measure: Callable[[Any], Any]) -> Callable[[Any], Any]:
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


class _OwnTracker:
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
