"""The measures of one network: the record of a step, the notes beside it, and its figures."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepcli.config import config_hash
from hepcli.data import OnProgress, silent
from hepcli.engine import estimator_of
from hepcli.experiments.evaluate import Examples, examples_of, loaded_split
from hepcli.experiments.figures.along_run import along_run
from hepcli.experiments.figures.captions import settings_of
from hepcli.experiments.figures.data import FigureData
from hepcli.experiments.figures.pictures import PictureAxes, pictures_of
from hepcli.experiments.initial import Initial
from hepcli.experiments.saved import SavedRun
from hepcli.experiments.task import Task
from hepcli.training import finite_or_none

_EXAMPLES = 256  # measured where no number is asked for, or all there are
_PICTURE_EXAMPLES = 8
_PICTURE_NUMBERS = (1, 2, 3, 4, 6, 8, 12)
_PICTURE_RADII = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_MAP_POINTS = 21  # along an axis of the stability map; odd, so that 0 is among them
_COARSE_MAP_POINTS = 13  # where the network is so large that its Jacobian is not built


class StepMeasured(NamedTuple):
    """A network was measured; `record` has the keys of `hep measure-asymmetry --json`."""

    record: dict[str, Any]
    notices: tuple[str, ...]


def map_axis(reach: float, points: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """An odd number of points from −reach to reach, exactly 0 among them, and those from 0 up."""
    upper = np.linspace(0, reach, points // 2 + 1)
    return np.concatenate([-upper[:0:-1], upper]), upper


class Measurement:
    """The compiled measures of a network, and the pictures of the one seen last.

    Args:
        task: configuration, network and data.
        split_name: which split; of "train" only those examples that were trained on.
        examples: how many, the first of the split; None for 256, or all where there are fewer.
        report: receives a line whenever something is begun.
        key: what errors call the number of examples.
    """

    def __init__(
        self,
        task: Task,
        split_name: Examples = "test",
        examples: int | None = None,
        report: OnProgress = silent,
        key: str = "--examples",
    ) -> None:
        chosen, split = examples_of(task, split_name), loaded_split(split_name)
        available = len(task.split(split).labels if chosen is None else chosen)
        self._examples = min(_EXAMPLES, available) if examples is None else examples
        self._task, self._split_name, self._report = task, split_name, report
        self._meter = task.meter(task.config, split, self._examples, key, chosen)
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

    @property
    def settings(self) -> dict[str, Any]:
        """What a record says of how it was measured."""
        config = self._task.config
        return {
            "config_hash": config_hash(config),
            "dataset": config.data.name,
            "split": self._split_name,
            "examples": self._examples,
            "method": config.gradient.method,
            "relaxation": asdict(config.relaxation),
            "gradient": asdict(config.gradient),
            "hardware": asdict(config.hardware),
        }

    def record(
        self, params: Any, step: int, checkpoint: str | None, test_top1: float | None
    ) -> dict[str, Any]:
        """Everything that --json prints of a step, but for the figures."""
        config, network = self._task.config, self._task.network
        params = self._task.weights_as_read(params, config, step)
        angles = {name: finite_or_none(float(a)) for name, a in network.weight_angles_deg(params).items()}
        total_angle = angles.pop("total", None)
        self._params = params
        measures = self._meter.measures(params, self._report)
        return {
            "step": step,
            "epoch": round(step / self._task.num_batches, 4),
            **self.settings,
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
                f"{real_only[0]} is not holomorphic, so nudges must be real; stability-map and convergence, "
                "the figures over complex nudges, are not drawn. Use sigmoid, dsilu, tanh, softplus or "
                "linear to get them."
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
        real_only = bool(self._task.network.real_only)
        over_nudges = "residuals over complex nudges, convergence of the Cauchy sum"
        self._report(f"figures: {'biases, spectrum' if real_only else over_nudges}")
        gradient = self._task.config.gradient
        radius = gradient.beta_radius if estimator_of(gradient.method).uses_circle else None
        reach = 4 * radius if radius else 2.0
        points = _MAP_POINTS if self._meter.is_dense else _COARSE_MAP_POINTS
        axis, upper = map_axis(reach, points)
        betas = (axis[None, :] + 1j * upper[:, None]).ravel()  # the lower half are conjugates
        radii = sorted({*_PICTURE_RADII, *([radius] if radius else [])})
        numbers = () if real_only else _PICTURE_NUMBERS
        outcome = self._meter.pictures(self._params, _PICTURE_EXAMPLES, betas, radii, numbers)
        steps = self._task.config.relaxation.nudged_steps
        axes = PictureAxes(axis, radii, numbers, gradient.method, radius, steps)
        return pictures_of(record, outcome, axes, self._caption())
