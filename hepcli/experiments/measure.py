"""The function behind `hep measure-asymmetry`: how far a network's learning signal is from the gradient."""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepcli.code import code_settings, load_code
from hepcli.config import config_hash, load_config
from hepcli.data import OnProgress, SplitName, silent
from hepcli.engine import estimator_of
from hepcli.errors import CheckpointError, ConfigError
from hepcli.experiments.captions import settings_of
from hepcli.experiments.drawing import draw_figure
from hepcli.experiments.figure_data import FigureData
from hepcli.experiments.figures import FigureFormat, attempt
from hepcli.experiments.initial import Initial, starting_params
from hepcli.experiments.measure_plots import PictureAxes, along_run, pictures_of
from hepcli.experiments.run_folder import RunFolder
from hepcli.experiments.saved import SavedRun
from hepcli.experiments.sources import INIT_KEY, short_source
from hepcli.experiments.task import Task
from hepcli.files import check_writable, replacing
from hepcli.settings import HardwareSettings
from hepcli.training import finite_or_none

MEASURES_FILE = "measures.json"
PARTIAL_FILE = "measures.partial.json"
"""The steps that are measured already, until all are."""
_EXAMPLES = 256  # measured where no number is asked for, or all there are
_EXACT = asdict(HardwareSettings())  # what measures of earlier versions were made with
_PICTURE_EXAMPLES = 8
_PICTURE_NUMBERS = (1, 2, 3, 4, 6, 8, 12)
_PICTURE_RADII = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_MAP_POINTS = 21  # along an axis of the stability map; odd, so that 0 is among them
_COARSE_MAP_POINTS = 13  # where the network is so large that its Jacobian is not built


class MeasureRequest(NamedTuple):
    """What the command line asks for.

    Attributes:
        checkpoint: a run folder, its checkpoints/ or one step in it; None with `preset`.
        preset: name or path, to measure an untrained network.
        seed: seed of the untrained network; None for the preset's own.
        step: which step; None for the one `checkpoint` names, else the newest intact one.
        all_steps: measure every step of the run.
        examples: how many, the first of the split; None for 256, or all where there are fewer.
        split_name: which split.
        overrides: KEY=VALUE texts, such as gradient.num_points=4.
        out: folder of results; None for asymmetry/ in the run folder.
        data_dir: where data sets are kept.
        figure_format: of the figures.
        code: files with own parts, besides those of a saved run.
        init_from: a run or a file whose weights the untrained network gets.
    """

    checkpoint: Path | None = None
    preset: str | None = None
    seed: int | None = None
    step: int | None = None
    all_steps: bool = False
    examples: int | None = None
    split_name: SplitName = "test"
    overrides: Sequence[str] = ()
    out: Path | None = None
    data_dir: Path | None = None
    figure_format: FigureFormat = "png"
    code: Sequence[Path] = ()
    init_from: str | None = None


class StepMeasured(NamedTuple):
    """A network was measured; `record` has the keys of `hep measure-asymmetry --json`."""

    record: dict[str, Any]
    notices: tuple[str, ...]


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

    All is computed in float64, so that the references are converged far below the biases.

    Args:
        request: what to measure.
        report: receives a line whenever something is begun.

    Yields:
        A record for every step, and `Measured` at the end.

    Raises:
        CheckpointError: not a run, no such step, nothing intact, or of another network.
        ConfigError: settings that are not allowed, or more examples than there are.
        CodeError: a file with own parts is missing, has changed or cannot be loaded.
        DatasetError: the data set is missing or damaged.
        OutputError: the results cannot be written.
    """
    source = _source(request)
    measurement = Measurement(source.task, request, report)
    folder = RunFolder(source.folder)
    with folder.writing():
        check_writable(folder.path)
    records: list[dict[str, Any]] = []
    for outcome in _steps(measurement, source, request):
        if isinstance(outcome, StepMeasured):
            records.append(outcome.record)
            if request.all_steps:
                folder.write_json(PARTIAL_FILE, {"steps": records})
        yield outcome
    result: dict[str, Any] = {"steps": records} if request.all_steps else dict(records[0])
    notices = [source.task.split(request.split_name).notice]
    with folder.writing():
        notices.append(_set_aside(folder.path / MEASURES_FILE, result))
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
    with folder.writing():
        (folder.path / PARTIAL_FILE).unlink(missing_ok=True)
    notices.append(attempt(draw, "The figures"))
    result |= {"figures": figures}
    folder.write_json(MEASURES_FILE, result)
    yield Measured(folder.path, result, tuple(filter(None, notices)))


def _set_aside(file: Path, result: dict[str, Any]) -> str | None:
    """Keep measures of other settings or steps, or what were none at all, under another name, and say so."""
    try:
        before = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        before = None
    differing = _differing(before, result)
    if differing == []:
        return None
    number = next(n for n in itertools.count(1) if not any(file.parent.glob(f"*.{n}.*")))
    kept = file.with_name(f"{file.stem}.{number}.json")
    file.rename(kept)
    _set_figures_aside(kept, before, number)
    what = "was not written by hep measure-asymmetry"
    if differing is not None:
        what = f"holds measures made with different settings ({', '.join(differing)})"
    return f"{file} {what}; it is now {kept.name}."


def _figures_of(record: Any) -> list[str]:
    """The names of the figures that measures are recorded with; none of what is no record of ours."""
    drawn = record.get("figures") if isinstance(record, dict) else None
    names = drawn if isinstance(drawn, list) else []
    return [name for name in names if isinstance(name, str) and Path(name).name == name]


def _set_figures_aside(kept: Path, before: Any, number: int) -> None:
    """Give the figures of measures that are kept their number, too: new ones take their names."""
    moved = []
    for name in _figures_of(before):
        stem, _, suffix = name.rpartition(".")
        if not kept.with_name(name).is_file():
            continue
        for end in (suffix, "figure.json"):
            if (old := kept.with_name(f"{stem}.{end}")).is_file():
                old.rename(kept.with_name(f"{stem}.{number}.{end}"))
        moved.append(f"{stem}.{number}.{suffix}")
    if moved:
        with replacing(kept) as temporary:
            temporary.write_text(json.dumps(before | {"figures": moved}, indent=2) + "\n")


def _differing(before: Any, result: dict[str, Any]) -> list[str] | None:
    """In what a file of measures differs from new ones; None where it is none."""
    steps = before.get("steps", [before]) if isinstance(before, dict) else None
    if not isinstance(steps, list) or not steps or not isinstance(steps[0], dict):
        return None
    own = json.loads(json.dumps(result.get("steps", [result])))  # tuples are lists in the file
    if ("steps" in before) != ("steps" in result) or len(steps) > len(own):
        return ["steps"]
    keys, absent = ("step", "split", "examples", "relaxation", "gradient", "hardware"), {"hardware": _EXACT}
    differing = [key for key in keys if steps[0].get(key, absent.get(key)) != own[0][key]]
    hashes = {one.get("config_hash", own[0]["config_hash"]) for one in (steps[0], own[0])}
    return differing or (["configuration"] if len(hashes) > 1 else [])


def _source(request: MeasureRequest) -> _Source:
    """The network to measure: of a checkpoint, or a fresh one."""
    if (request.checkpoint is None) == (request.preset is None):
        both = request.checkpoint is not None
        raise ConfigError(
            "A saved run brings its own settings: --preset cannot be combined with it."
            if both
            else "There is nothing to measure: neither a saved run nor, for an untrained network, --preset.",
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
    measurement: "Measurement", source: _Source, request: MeasureRequest
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
    for step in run.store.folders():
        try:
            outcome = measurement.saved(run, step)
        except CheckpointError as error:
            failed = error
            yield StepSkipped(error.what)
        else:
            measured += 1
            yield outcome
    if failed is not None and not measured:
        raise failed


def map_axis(reach: float, points: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """An odd number of points from −reach to reach, exactly 0 among them, and those from 0 up."""
    upper = np.linspace(0, reach, points // 2 + 1)
    return np.concatenate([-upper[:0:-1], upper]), upper


class Measurement:
    """The compiled measures of a network, and the pictures of the one seen last.

    Args:
        task: configuration, network and data.
        request: which examples.
        report: receives a line whenever something is begun.
        key: what errors call the number of examples.
    """

    def __init__(
        self, task: Task, request: MeasureRequest, report: OnProgress = silent, key: str = "--examples"
    ) -> None:
        available = len(task.split(request.split_name).labels)
        self._examples = min(_EXAMPLES, available) if request.examples is None else request.examples
        self._task, self._request, self._report = task, request, report
        self._meter = task.meter(task.config, request.split_name, self._examples, key)
        self._params: Any = None

    def untrained(self, initial: Initial) -> StepMeasured:
        """Measure the network before training."""
        record = self.record(initial.params, 0, None, None)
        return StepMeasured(
            record | ({"init_from": initial.record} if initial.record else {}), tuple(initial.notices)
        )

    def saved(self, run: SavedRun, step: int | None) -> StepMeasured:
        """Measure a step of a run; None is the newest intact one."""
        restored = run.restore(step)
        path = str(run.path_of(restored.step))
        test_top1 = run.recorded_accuracy(restored)
        record = self.record(restored.state.params, restored.step, path, test_top1)
        return StepMeasured(record, restored.damaged)

    def record(
        self, params: Any, step: int, checkpoint: str | None, test_top1: float | None
    ) -> dict[str, Any]:
        """Everything that --json prints of a step, but for the figures."""
        request, config, network = self._request, self._task.config, self._task.network
        params = self._task.weights_as_read(params, config, step)
        angles = {name: finite_or_none(float(a)) for name, a in network.weight_angles_deg(params).items()}
        total_angle = angles.pop("total", None)
        self._params = params
        measures = self._meter.measures(params, self._report)
        return {
            "step": step,
            "epoch": round(step / self._task.num_batches, 4),
            "config_hash": config_hash(config),
            "dataset": config.data.name,
            "split": request.split_name,
            "examples": self._examples,
            "method": config.gradient.method,
            "relaxation": asdict(config.relaxation),
            "gradient": asdict(config.gradient),
            "hardware": asdict(config.hardware),
            "test_top1": test_top1,
            "weight_angle_deg": total_angle,
            "weight_angle_deg_by_pair": angles,
            **measures,
            "jacobian": "exact" if self._meter.is_dense else "estimated",
            "notes": self._notes(measures, total_angle),
            "checkpoint": checkpoint,
        }

    def _notes(self, measures: dict[str, Any], angle: float | None) -> list[str]:
        """Why something is null or left out, in words."""
        notes = list(filter(None, [self._meter.coverage_note]))
        left_out = measures["left_out"]
        settings = self._meter.settings.reference
        if missing := left_out["no_fixed_point"]:
            notes.append(
                f"{len(missing)} of {self._examples} examples left out: their free phase reached "
                "no fixed point "
                f"within {settings.max_steps} steps (residual above {settings.fixed_point_residual:g})."
            )
        if missing := left_out["not_solved"]:
            notes.append(
                f"{len(missing)} of {self._examples} examples left out: the reference signals "
                "did not converge "
                f"(relative residual above {settings.relative_residual:g} after {settings.max_steps} steps)."
            )
        method = self._task.config.gradient.method
        if missing := left_out["not_finite"]:
            notes.append(
                f"{len(missing)} of {self._examples} examples left out of finite_nudge, total and "
                f"gradient_cosine: their {method} signal is not finite."
            )
        estimator = estimator_of(method)
        if estimator.limit == "rbp":
            notes.append(
                f"{method} has no asymmetry bias; its finite_nudge values compare it with hep exact, "
                "which does, so only total is its bias."
            )
        if self._task.config.gradient.beta_sign == "random":
            notes.append(
                "gradient.beta_sign = random: all examples were measured with the same sign; in training, "
                "which draws one for every batch, the mean over batches has a smaller finite-nudge bias."
            )
        if not estimator.has_error_vector:
            undefined = "finite_nudge, total and gradient_cosine are undefined"
            notes.append(f"{method} has no error vector: {undefined}.")
        if real_only := self._task.network.real_only:
            notes.append(
                f"{real_only[0]} is not holomorphic, so nudges must be real; the figures show complex "
                "nudges and "
                "are not drawn. Use sigmoid, dsilu, tanh, softplus or linear to get them."
            )
        if angle is None and not self._task.network.pairs:
            notes.append("No two layers are connected in both directions, so the weight angle is undefined.")
        return notes

    def along(self, records: Sequence[dict[str, Any]]) -> dict[str, FigureData]:
        """The figure of a run, by its name."""
        return {"along-run": along_run(records, self._caption())}

    def _caption(self) -> str:
        config = self._task.config
        return settings_of(config, estimator_of(config.gradient.method).uses_circle)

    def figures(self, record: dict[str, Any]) -> dict[str, FigureData]:
        """The figures of the network measured last, by their names."""
        if self._task.network.real_only:
            return {}
        self._report("figures: residuals over complex nudges, convergence of the Cauchy sum")
        gradient = self._task.config.gradient
        radius = gradient.beta_radius if estimator_of(gradient.method).uses_circle else None
        reach = 4 * radius if radius else 2.0
        points = _MAP_POINTS if self._meter.is_dense else _COARSE_MAP_POINTS
        axis, upper = map_axis(reach, points)
        betas = (axis[None, :] + 1j * upper[:, None]).ravel()  # the lower half are conjugates
        radii = sorted({*_PICTURE_RADII, *([radius] if radius else [])})
        outcome = self._meter.pictures(self._params, _PICTURE_EXAMPLES, betas, radii, _PICTURE_NUMBERS)
        steps = self._task.config.relaxation.nudged_steps
        axes = PictureAxes(axis, radii, _PICTURE_NUMBERS, gradient.method, radius, steps)
        return pictures_of(record, outcome, axes, self._caption())
