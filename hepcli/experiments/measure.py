"""The function behind `hep measure-asymmetry`: how far a network's learning signal is from the gradient."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hepcli.code import code_settings, load_code
from hepcli.config import load_config
from hepcli.data import OnProgress, silent
from hepcli.errors import CheckpointError, ConfigError
from hepcli.experiments.evaluate import Examples, loaded_split
from hepcli.experiments.figures.drawing import draw_figure
from hepcli.experiments.figures.style import FigureFormat, attempt
from hepcli.experiments.initial import Initial, starting_params
from hepcli.experiments.measurement import Measurement, StepMeasured
from hepcli.experiments.partial import PARTIAL_FILE, PartialMeasures
from hepcli.experiments.run_folder import RunFolder
from hepcli.experiments.saved import SavedRun
from hepcli.experiments.set_aside import set_aside
from hepcli.experiments.sources import INIT_KEY, short_source
from hepcli.experiments.task import Task
from hepcli.files import check_writable, held

MEASURES_FILE = "measures.json"


class MeasureRequest(NamedTuple):
    """What the command line asks for.

    Attributes:
        checkpoint: a run folder, its checkpoints/ or one step in it; None with `preset`.
        preset: name or path, to measure an untrained network.
        seed: seed of the untrained network; None for the preset's own.
        step: which step; None for the one `checkpoint` names, else the newest intact one.
        all_steps: measure every step of the run.
        examples: how many, the first of the split; None for 256, or all where there are fewer.
        split_name: which split; of "train" only those examples that were trained on.
        overrides: KEY=VALUE texts, such as gradient.num_points=4.
        out: folder of results; None for asymmetry/ in the run folder.
        data_dir: where data sets are kept.
        figure_format: of the figures.
        code: files with own components, besides those of a saved run.
        init_from: a run or a file whose weights the untrained network gets.
    """

    checkpoint: Path | None = None
    preset: str | None = None
    seed: int | None = None
    step: int | None = None
    all_steps: bool = False
    examples: int | None = None
    split_name: Examples = "test"
    overrides: Sequence[str] = ()
    out: Path | None = None
    data_dir: Path | None = None
    figure_format: FigureFormat = "png"
    code: Sequence[Path] = ()
    init_from: str | None = None


class StepSkipped(NamedTuple):
    """A step of the run is missing or cannot be read; the others go on."""

    reason: str


class Measured(NamedTuple):
    """All is measured and drawn; `result` is what --json prints."""

    folder: Path
    result: dict[str, Any]
    notices: tuple[str, ...]


MeasureEvent = StepMeasured | StepSkipped | Measured


class _Source(NamedTuple):
    """A network to measure, and where its parameters come from."""

    task: Task
    weights: SavedRun | Initial
    folder: Path


def measure(request: MeasureRequest, report: OnProgress = silent) -> Iterator[MeasureEvent]:
    """Measure a saved or an untrained network.

    All but a free phase in lower precision is computed in float64, so that the references are converged far
    below the biases.

    Args:
        request: what to measure.
        report: receives a line whenever something is begun.

    Yields:
        A record for every step, and `Measured` at the end.

    Raises:
        CheckpointError: not a run, no such step, nothing intact, or of another network.
        ConfigError: settings that are not allowed, or more examples than there are.
        CodeError: a file with own components is missing, has changed or cannot be loaded.
        DatasetError: the data set is missing or damaged.
        OutputError: the results cannot be written.
    """
    source = _source(request)
    measurement = Measurement(source.task, request.split_name, request.examples, report)
    folder = RunFolder(source.folder)
    with folder.writing():
        check_writable(folder.path)
    records: list[dict[str, Any]] = []
    for outcome in _steps(measurement, source, request, folder):
        if isinstance(outcome, StepMeasured):
            records.append(outcome.record)
        yield outcome
    notice = source.task.split(loaded_split(request.split_name)).notice
    with folder.writing(), held(folder.path):  # figures are those of the measures beside them
        done = _write(request, measurement, folder, records)
    yield done._replace(notices=(*filter(None, [notice]), *done.notices))


def _write(
    request: MeasureRequest, measurement: Measurement, folder: RunFolder, records: Sequence[dict[str, Any]]
) -> Measured:
    """Write the measures, and draw them."""
    result: dict[str, Any] = {"steps": records} if request.all_steps else dict(records[0])
    notices = [set_aside(folder.path / MEASURES_FILE, result)]
    figures: list[str] = []

    def draw() -> None:
        along = request.all_steps
        drawn = measurement.along(records) if along else measurement.figures(records[0])
        for name, data in drawn.items():
            file = f"{name}.{request.figure_format}"
            path = folder.path / file
            failed = attempt(lambda: draw_figure(data, path), file)  # noqa: B023
            notices.append(failed)
            if failed is None:
                figures.append(file)

    folder.write_json(MEASURES_FILE, result | {"figures": figures})  # what was measured, before any picture
    if request.all_steps:
        (folder.path / PARTIAL_FILE).unlink(missing_ok=True)
    notices.append(attempt(draw, "The figures"))
    result |= {"figures": figures}
    folder.write_json(MEASURES_FILE, result)
    return Measured(folder.path, result, tuple(filter(None, notices)))


def _source(request: MeasureRequest) -> _Source:
    """The network to measure: of a checkpoint, or a fresh one."""
    if (request.checkpoint is None) == (request.preset is None):
        both = request.checkpoint is not None
        raise ConfigError(
            "A saved run brings its own settings: --preset cannot be combined with it."
            if both
            else "There is nothing to measure: give a saved run or, for an untrained network, --preset.",
            "Run hep measure-asymmetry RUN_FOLDER   or hep measure-asymmetry --preset NAME.",
        )
    if request.checkpoint is not None:
        for option, given in (("--seed", request.seed), ("--init-from", request.init_from)):
            if given is not None:
                raise ConfigError(
                    f"{option} works only with --preset; a saved network has its own.", f"Leave out {option}."
                )
        run = SavedRun(request.checkpoint, request.overrides, request.data_dir, code=request.code)
        return _Source(run.task, run, request.out or run.folder / "asymmetry")
    if request.step is not None or request.all_steps:
        raise ConfigError(
            "--step and --all-steps need a saved run; an untrained network has no checkpoints.",
            "Leave them out.",
        )
    own: dict[str, object] = {"run.seed": request.seed, INIT_KEY: request.init_from}
    flags = own | code_settings(load_code(request.code))
    resolved = load_config(request.preset, request.overrides, flags)
    config = resolved.config
    task = Task(config, request.data_dir)
    initial = starting_params(task, config, request.data_dir)
    source = f"-from-{short_source(config.run.init_from)}" if config.run.init_from else ""
    name = f"asymmetry-{resolved.preset}-seed{config.run.seed}{source}"
    return _Source(task, initial, request.out or Path("runs") / name)


def _steps(
    measurement: Measurement, source: _Source, request: MeasureRequest, folder: RunFolder
) -> Iterator[StepMeasured | StepSkipped]:
    """One network, or with --all-steps every step of the run that is intact."""
    run = source.weights
    if isinstance(run, Initial):
        yield measurement.untrained(run)
        return
    if not request.all_steps:
        yield measurement.saved(run, run.chosen_step(request.step))
        return
    if request.step is not None or run.named_step is not None:
        raise ConfigError("--all-steps and a single step cannot be combined.", f"Give {run.folder} alone.")
    failed: CheckpointError | None = None
    measured = 0
    if missing := run.missing_step():
        yield StepSkipped(missing)
    partial = PartialMeasures(folder, str(run.path_of(0).parent), measurement)
    notices = tuple(partial.notices)
    for step in run.store.all_steps():
        try:
            if step in partial.steps:
                outcome = StepMeasured(partial.steps[step], ())
            else:
                outcome = measurement.saved(run, step)
                partial.add(outcome.record)
        except CheckpointError as error:
            failed = error
            yield StepSkipped(error.what)
        else:
            measured += 1
            yield outcome._replace(notices=(*notices, *outcome.notices))
            notices = ()
    if failed is not None and not measured:
        raise failed
