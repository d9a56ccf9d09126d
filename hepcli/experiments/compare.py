"""The function behind `hep plot`: curves of several runs over the epochs, in one figure."""

from collections.abc import Sequence
from pathlib import Path

from hepcli.config import FigureView
from hepcli.errors import ConfigError, OutputError
from hepcli.experiments.sweeps.collect import Collection, collect_runs

FORMATS = (".png", ".pdf", ".svg")


def compare(
    runs: Sequence[Path], values: Sequence[str] = (), out: Path = Path("curves.png")
) -> tuple[Path, tuple[str, ...]]:
    """Draw curves of runs; those that differ in their seed only become a mean with a band.

    Args:
        runs: run folders, finished or not, at least one.
        values: a panel each: `test_error`, `train_error` or `validation_error` (%), or a dotted key of
            metrics.jsonl; none for loss and errors.
        out: the file, .png, .pdf or .svg; one that is there is replaced.

    Returns:
        The file, and notices for the user.

    Raises:
        ConfigError: a folder is no run, a run lacks a value, or `out` ends in something else.
        OutputError: records of a run are damaged, or the file cannot be written.
    """
    if out.suffix not in FORMATS:
        raise ConfigError(f"--out {out}: figures are written as {', '.join(FORMATS)}.", "Choose one of them.")
    collection = collect_runs([run.resolve() for run in runs], "")
    if not any(outcome.history for outcome in collection.outcomes):
        raise ConfigError("none of these runs has finished an epoch.", "Wait for one.")
    view = FigureView(kind="curves", y=tuple(values) or _values(collection), series=tuple(collection.axes))
    _draw(collection._replace(figure=view), out)
    return out, tuple(notice for notice in collection.notices if "it is not finished" not in notice)


def _values(collection: Collection) -> tuple[str, ...]:
    """Loss and errors; on the validation examples where all runs have some."""
    lines = [outcome.history[0] for outcome in collection.outcomes if outcome.history]
    validated = all("validation" in line for line in lines)
    return ("train.loss", "train_error", *(["validation_error"] if validated else []), "test_error")


def _draw(collection: Collection, out: Path) -> None:
    from hepcli.experiments.drawing import draw_figure
    from hepcli.experiments.sweeps.figure import figure_of

    try:
        draw_figure(figure_of(collection), out)
    except OSError as error:
        raise OutputError(
            f"{out} cannot be written: {error.strerror or error}.", "Choose another --out."
        ) from error
