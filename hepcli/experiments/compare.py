"""The functions behind `hep plot`: curves of several runs in one figure, and figures drawn again."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hepcli.checkpoints import CONFIG_FILE
from hepcli.config import FigureView, read_config
from hepcli.errors import ConfigError, OutputError
from hepcli.experiments.figures.data import SUFFIX, data_file, read_data
from hepcli.experiments.sweeps.collect_runs import collect_runs
from hepcli.experiments.sweeps.collection import Collection
from hepcli.files import write_failure

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
    _check_format(out)
    if "" in values:
        raise ConfigError("--y is empty.", "Give a value such as test_error, or leave out --y.")
    for run in runs:
        if not (run / CONFIG_FILE).is_file():
            read_config(run)  # says what is wrong
    collection = collect_runs([run.resolve() for run in runs], "", with_unfinished=True)
    if not any(outcome.history for outcome in collection.outcomes):
        raise ConfigError("none of these runs has finished an epoch.", "Wait until one has.")
    view = FigureView(kind="curves", y=tuple(values) or _values(collection), series=tuple(collection.axes))
    _draw(collection._replace(figure=view), out)
    return out, collection.notices


def is_figure(path: Path) -> bool:
    """Whether a path is that of a figure's data."""
    return path.name.endswith(SUFFIX)


def draw_again(files: Sequence[Path], out: Path | None = None) -> list[Path]:
    """Draw figures again from the data that are saved beside them.

    Args:
        files: each ends in `.figure.json`.
        out: of one figure, .png, .pdf or .svg; None for NAME.png beside NAME.figure.json.

    Returns:
        The figures; those that are there are replaced.

    Raises:
        ConfigError: one file for several figures, or it ends in something else, or a run among them.
        OutputError: a file holds no figure, or the figure cannot be written.
    """
    if others := [str(file) for file in files if not is_figure(file)]:
        raise ConfigError(
            f"{others[0]} is not a .figure.json file, unlike the other arguments.",
            "Use separate commands for runs and for figures.",
        )
    if out is not None and len(files) > 1:
        raise ConfigError(
            f"--out {out} names one file, but there are {len(files)} figures.", "Leave out --out."
        )
    from hepcli.experiments.figures.drawing import redraw

    made = []
    for file in files:
        figure = out or file.with_name(file.name.removesuffix(SUFFIX) + ".png")
        _check_format(figure)
        data = read_data(file)
        try:
            with _writing(figure):
                redraw(data, figure)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise OutputError(
                f"{file} cannot be drawn: {str(error).rstrip('.')}.", "It is damaged; draw the figure anew."
            ) from error
        made.append(figure)
    return made


def _check_format(out: Path) -> None:
    if out.suffix.lower() not in FORMATS:
        raise ConfigError(
            f"--out {out}: figures can be written only as {', '.join(FORMATS)}.", "Choose one of them."
        )


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{out} cannot be written: {write_failure(out, error)}.", "Choose another --out."
        ) from error


def _values(collection: Collection) -> tuple[str, ...]:
    """Loss and errors; on the validation examples where all runs have some."""
    lines = [outcome.history[0] for outcome in collection.outcomes if outcome.history]
    validated = all("validation" in line for line in lines)
    return ("train.loss", "train_error", *(["validation_error"] if validated else []), "test_error")


def _draw(collection: Collection, out: Path) -> None:
    from hepcli.experiments.figures.drawing import draw_figure
    from hepcli.experiments.sweeps.figure import figure_of

    _check_replaceable(out)
    with _writing(out):
        draw_figure(figure_of(collection), out)


def _check_replaceable(out: Path) -> None:
    """Check that nothing is replaced but a figure that was asked for, and its data.

    Raises:
        ConfigError: the file for its data is no figure's, or is that of the curves of a run.
    """
    data = data_file(out)
    if not data.exists():
        return
    if out.stem == "curves" and (out.parent / CONFIG_FILE).exists():
        raise ConfigError(f"{out} belongs to the run {out.parent}.", "Choose another --out.")
    try:
        read_data(data)
    except OutputError as error:
        raise ConfigError(
            f"{data}, where the data of the figure would be saved, contains something else.",
            "Choose another --out, or move that file away.",
        ) from error
