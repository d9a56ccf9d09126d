"""Networks with their parameters, saved or untrained, and what they do with images."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int, UInt8
from numpy.typing import NDArray

from hepcli.api._session import in_session
from hepcli.config import Config, names_in
from hepcli.data import Split
from hepcli.engine import Params, Problem, State, activities, free_phase
from hepcli.experiments.evaluate import Examples, examples_of, loaded_split
from hepcli.experiments.initial import misfit_of
from hepcli.experiments.task import Task
from hepcli.networks import Network
from hepcli.settings import DataSettings, RelaxationSettings, has_own_parts
from hepcli.training import normalizer


class States(NamedTuple):
    """The states that images produce in the free phase, as NumPy arrays.

    Attributes:
        pre_activations: u per layer (batch, *units), float32.
        activities: σ(u), likewise.
        scores: of the classes, float32.
        residual: ‖F(u)‖ over all layers, float32.
        settled: whether that is at most `relaxation.converged_residual`, or what the rounding of a lower
            `relaxation.free_precision` leaves (METHOD §1).
        finite: whether no layer holds a NaN or an infinity.
        passes: passes run.
    """

    pre_activations: State
    activities: State
    scores: Float[Array, "batch classes"]
    residual: Float[Array, " batch"]
    settled: Bool[Array, " batch"]
    finite: Bool[Array, " batch"]
    passes: Int[Array, " batch"]


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A network with parameters, and the configuration they belong to.

    Attributes:
        config: every setting, one attribute for each table.
        network: layers, connections, activation and loss.
        params: real parameters, connection or ``readout`` -> kernel and bias.
        step: training steps that led to them.
    """

    config: Config
    network: Network = dataclasses.field(repr=False)
    params: Params = dataclasses.field(repr=False)
    _task: Task = dataclasses.field(repr=False)
    step: int = dataclasses.field(default=0, kw_only=True)
    _programs: object = dataclasses.field(default_factory=object, kw_only=True, repr=False)

    def with_params(self, params: Params) -> Self:
        """A copy of this model with a copy of other parameters, in float32; no traced ones of `jax.grad`.

        Args:
            params: real floating-point arrays, connection or ``readout`` -> kernel and bias; kernels are
                (in, out), of convolutions (height, width, channels below, channels above), feedback too, and
                of `local` ones (rows, columns, height, …).

        Raises:
            ValueError: they are of another network, or not finite.
        """
        given = {connection: dict(leaves) for connection, leaves in params.items()}
        faults: list[str] = []
        own: dict[str, dict[str, Any]] = {}
        for connection, leaves in self.params.items():
            own[connection] = {}
            for leaf, like in leaves.items():
                value = given.get(connection, {}).pop(leaf, None)
                array = np.asarray(0.0 if value is None else value)
                misfit = "is missing" if value is None else misfit_of(array, like)
                if misfit is None:
                    own[connection][leaf] = array = np.array(array, np.float32)
                    misfit = None if np.isfinite(array).all() else "is not finite in float32"
                faults += [] if misfit is None else [f"{connection}.{leaf} {misfit}"]
        unknown = [f"{name}.{leaf}" for name, leaves in given.items() for leaf in leaves]
        faults += [f"{name} is not a parameter of this network" for name in unknown]
        if faults:
            raise ValueError(f"these parameters do not fit this network: {'; '.join(faults)}")
        return dataclasses.replace(self, params=own)

    @property
    @in_session
    def weights_as_read(self) -> Params:
        """What the network computes with: `params`, as limited by `[hardware]`."""
        self._task.make_current()
        return self._task.weights_as_read(
            {name: dict(own) for name, own in self.params.items()}, self.config, self.step
        )

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Of data sets that were imported from folders, in the order of the labels; None of others."""
        return self._task.spec.class_names

    @in_session
    def split(self, name: Examples = "test") -> Split:
        """Images, uint8 (examples, height, width, channels), and labels of the data set, read-only.

        Args:
            name: "test", "validation" (the examples that the run holds out), or "train" (those it trains on;
                `measure` takes the first of all training examples, held out or not).

        Raises:
            ConfigError: there is no such split, or no examples are held out.
            DatasetError: the data set is missing or damaged.
        """
        self._task.make_current()
        chosen = examples_of(self._task, name)
        whole = self._task.split(loaded_split(name))
        if chosen is None:
            return whole
        images, labels = whole.images[chosen], whole.labels[chosen]
        images.flags.writeable = labels.flags.writeable = False
        return whole._replace(images=images, labels=labels)

    @in_session
    def states(self, images: UInt8[np.ndarray, "batch height width channels"]) -> States:
        """Run the free phase on images, as many at a time as `data.eval_batch_size`.

        Args:
            images: pixels of 0 … 255; images with one channel may omit the last axis.

        Returns:
            States, residuals and scores.

        Raises:
            ValueError: the images are not such an array.

        Example:
            >>> model = hepcli.init_model("quickstart", {"network.layers.l1.units": 16})
            >>> states = model.states(model.split("test").images[:3])
            >>> states.activities["l1"].shape, states.scores.shape, states.settled.dtype
            ((3, 16), (3, 10), dtype('bool'))
        """
        self._task.make_current()
        images = self.checked_images(images)
        size = self.config.data.eval_batch_size
        settings = own_programs(self, self.config), self.network, self.config.data, self.config.relaxation
        weights = self.weights_as_read
        parts = [
            jax.device_get(
                _states(*settings, weights, jnp.asarray(images[start : start + size]), jnp.uint32(start))
            )
            for start in range(0, len(images), size)
        ]
        whole: States = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
        return whole

    def checked_images(self, images: Any) -> NDArray[np.uint8]:
        """Images with all four axes; raises ValueError where they are none of this data set's kind."""
        images, shape = np.asarray(images), self._task.spec.image_shape
        if images.ndim == 3 and shape[-1] == 1:
            images = images[..., np.newaxis]
        if images.dtype != np.uint8 or images.shape[1:] != shape or not len(images):
            size = ", ".join(map(str, shape))
            raise ValueError(
                f"images must be uint8 of shape (batch, {size}), not {images.dtype} of {images.shape}"
            )
        checked: NDArray[np.uint8] = images
        return checked

    def checked_labels(self, labels: Any, images: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Labels as int32; raises ValueError where they are not one class for each image."""
        labels, classes = np.asarray(labels), self._task.spec.num_classes
        if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
            what = f"{labels.dtype} of {labels.shape}"
            raise ValueError(f"labels must be {len(images)} whole numbers, one for each image, not {what}")
        wrong = labels[(labels < 0) | (labels >= classes)]
        if wrong.size:
            raise ValueError(f"label {wrong[0]} is outside 0 … {classes - 1}")
        checked: NDArray[np.int32] = labels.astype(np.int32)
        return checked


@dataclasses.dataclass(frozen=True, eq=False)
class Run(Model):
    """A saved run at one of its steps.

    Attributes:
        folder: of the run.
        history: the lines of metrics.jsonl up to that step.
        checkpoint: of that step; None once the parameters are others.
    """

    folder: Path = dataclasses.field(kw_only=True)
    history: Sequence[dict[str, Any]] = dataclasses.field(kw_only=True, repr=False)
    checkpoint: Path | None = dataclasses.field(kw_only=True)
    _test_top1: float | None = dataclasses.field(kw_only=True, repr=False)

    def with_params(self, params: Params) -> Self:
        """A copy of this run with other parameters, of which no checkpoint and no accuracy is known.

        Raises:
            ValueError: they are of another network, or not finite.
        """
        return dataclasses.replace(super().with_params(params), checkpoint=None, _test_top1=None)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _states(
    programs: object,
    network: Network,
    data: DataSettings,
    relaxation: RelaxationSettings,
    params: Params,
    images: Array,
    first: Array,
) -> States:
    inputs = normalizer(data)(images)
    no_targets = jnp.zeros((len(images), network.num_classes), inputs.dtype)
    places = first + jnp.arange(len(images))
    problem = Problem(network, params, inputs, no_targets, relaxation, key=jax.random.key(0), places=places)
    phase = free_phase(problem).phase
    activity = activities(problem, phase.state)
    scores = network.output(params, activity["out"])
    return States(phase.state, activity, scores, phase.residual, phase.settled, phase.finite, phase.passes)


def own_programs(model: Model, config: Config) -> object:
    """What compiled programs belong to: with components of the user's own the model, else all models.

    A new model reads again what such a component takes from elsewhere, such as a global number.
    """
    return model._programs if has_own_parts(names_in(config)) else None
