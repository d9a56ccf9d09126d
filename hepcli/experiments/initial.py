"""The weights a run begins with where they are another run's, matched by name and shape."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from hepcli.config import Config, config_hash
from hepcli.data import held_out
from hepcli.errors import CheckpointError, ConfigError
from hepcli.experiments.saved import SavedRun
from hepcli.experiments.sources import split_source
from hepcli.experiments.task import Task
from hepcli.experiments.weights import SUFFIXES, flat, read_weights
from hepcli.files import file_digest
from hepcli.networks import rotate_feedback

Params = Mapping[str, Mapping[str, Any]]


class Trained(NamedTuple):
    """What weights were trained on: `data.name`, `data.validation_examples` and `run.seed`."""

    dataset: str
    validation_examples: int
    seed: int


class Initial(NamedTuple):
    """Weights to begin with.

    Attributes:
        params: like those of the fresh network.
        record: what was taken from where, for init_from.json.
        notices: the same for the user, where something was left out.
        trained: what the weights were trained on; None where a file does not say.
    """

    params: Params
    record: dict[str, Any]
    notices: list[str]
    trained: Trained | None


def initial_params(source: str, fresh: Params, data_dir: Path | None = None) -> Initial:
    """Take from a run, or a file of weights, what fits a network.

    Args:
        source: `run.init_from`: FOLDER, FOLDER:STEP, FOLDER:best, or a .safetensors or .npz file.
        fresh: parameters of the network that is to be trained; what finds no match stays as it is.
        data_dir: where data sets are kept.

    Returns:
        The parameters, float32, and what was and was not taken.

    Raises:
        CheckpointError: the source is missing or damaged, of another network, or not finite.
        ConfigError: it names no step that there is.
    """
    arrays, record, notices, trained = _read(source, data_dir)
    wanted = flat(fresh)
    unfit: dict[str, str] = {}
    for name, value in wanted.items():
        if name not in arrays:
            unfit[name] = "is missing"
        elif misfit := misfit_of(arrays[name], value):
            unfit[name] = misfit
        elif not np.isfinite(_cast(arrays[name], value)).all():
            raise CheckpointError(
                f"{name} in {source} contains NaN, or values that are infinite in {value.dtype}.",
                "Choose an earlier step.",
            )
    taken = [name for name in wanted if name not in unfit]
    if not taken:
        lines = "".join(f"\n  {name} {reason}" for name, reason in unfit.items())
        has = "".join(f"\n  {name} {list(array.shape)}" for name, array in sorted(arrays.items()))
        raise CheckpointError(
            f"{source} belongs to another network; no weights match by name and shape:{lines}\nIt has:{has}",
            "Give a run or file with connections of the same names and sizes. For the network of a run: "
            "--preset RUN/config.toml.",
        )
    params = {
        connection: {
            leaf: _cast(arrays[name], value) if name in taken else value
            for leaf, value in leaves.items()
            for name in [f"{connection}.{leaf}"]
        }
        for connection, leaves in fresh.items()
    }
    unused = sorted(arrays.keys() - wanted.keys())
    record |= {"taken": taken, "begins_fresh": unfit, "unused": unused}
    if unfit:
        listed = ", ".join(f"{name} ({reason})" for name, reason in unfit.items())
        notices.append(f"These weights do not match {source} and are freshly initialised: {listed}.")
    if unused:
        notices.append(f"These weights of {source} are not used: {', '.join(unused)}.")
    return Initial(params, record, notices, trained)


def misfit_of(array: NDArray[Any], like: Any) -> str | None:
    """Why an array cannot be a parameter, in words that follow its name; None where it can."""
    if array.shape != like.shape:
        turned = array.ndim == 2 and array.shape[::-1] == like.shape
        hint = "; kernels are (in, out), so this one may be transposed" if turned else ""
        return f"has shape {list(array.shape)}, not {list(like.shape)}{hint}"
    is_real = jnp.issubdtype(array.dtype, jnp.floating)  # bfloat16, too
    return None if is_real else f"is {array.dtype}, not floating-point"


def _cast(array: NDArray[Any], like: Any) -> NDArray[Any]:
    """In the precision of parameters; what is too large for it becomes infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(array, like.dtype)


def starting_params(task: Task, config: Config, data_dir: Path | None = None) -> Initial:
    """What an untrained network has: fresh parameters, or with `run.init_from` those weights where they fit.

    Args:
        task: the network.
        config: seed, initial angle and source; the task's, but for what runs that train together differ in.
        data_dir: where data sets are kept.

    Raises:
        CheckpointError, ConfigError: as `initial_params`.
    """
    if not (source := config.run.init_from):
        return Initial(jax.device_get(task.fresh_params(config)), {}, [], None)
    initial = initial_params(source, jax.device_get(task.unmixed_params(config)), data_dir)
    task.make_current()  # another run may compute in other numbers, and with other parts
    fresh, angle = initial.record["begins_fresh"], config.network.initial_angle_deg
    pairs = [pair for pair in task.network.untied_pairs if f"{pair[0]}.kernel" in fresh]
    params = jax.device_get(rotate_feedback(initial.params, pairs, angle))
    notices = list(initial.notices)
    if onto_loaded := [feedback for feedback, forward in pairs if f"{forward}.kernel" not in fresh]:
        notices.append(
            "Their fresh feedback kernels are mixed with the forward ones as network.initial_angle_deg = "
            f"{angle:g} says: {', '.join(onto_loaded)}."
        )
    return initial._replace(params=params, notices=notices)


def leak_notice(
    source: str,
    trained: Trained | None,
    config: Config,
    chosen: NDArray[np.int64],
    labels: NDArray[np.int32],
    parent: str | None = None,
) -> str | None:
    """Say where validation examples are not new to the weights a run begins with.

    Args:
        source: `run.init_from`.
        trained: what those weights were trained on.
        config: of the new run.
        chosen: its validation examples.
        labels: of all training examples.
        parent: the data set that those of the new run were taken from.

    Returns:
        A notice; None where there is no such example, or none is known.
    """
    if trained is None or not chosen.size:
        return None
    if trained.dataset == parent:
        return (
            f"{source} was trained on {parent}, from which the examples of {config.data.name} were taken: "
            "validation errors may be too low."
        )
    if trained.dataset != config.data.name:
        return None
    seen = np.setdiff1d(chosen, held_out(labels, trained.validation_examples, trained.seed))
    if not seen.size:
        return None
    advice = (
        f"Use run.seed={trained.seed} and data.validation_examples={trained.validation_examples}, as there."
        if trained.validation_examples
        else "It held out none."
    )
    return (
        f"{seen.size} of the {chosen.size} validation examples were used to train {source}, so validation "
        f"errors will be too low. {advice}"
    )


def _read(
    source: str, data_dir: Path | None
) -> tuple[dict[str, NDArray[Any]], dict[str, Any], list[str], Trained | None]:
    """The arrays of a source, where they came from, notices, and what they were trained on."""
    path, step = split_source(source)
    if path.suffix in SUFFIXES and not path.is_dir():
        if step is not None:
            raise ConfigError(
                f"run.init_from = {source}: a file holds the weights of one step.", f"Leave out :{step}."
            )
        arrays, metadata = read_weights(path)
        names = ("config_hash", "step")
        origin: dict[str, Any] = {"file": source, **{name: metadata.get(name) for name in names}}
        origin["sha256"] = file_digest(path)
        return arrays, origin, [], _trained(metadata)
    run = SavedRun(path, data_dir=data_dir, reads_data=False)
    if step is not None and step != "best" and not step.isdecimal():
        usage = "Write FOLDER, FOLDER:STEP or FOLDER:best."
        raise ConfigError(f"run.init_from = {source}: {step} is not a step.", usage)
    restored = run.restore_chosen("best" if step == "best" else None if step is None else int(step))
    record = {"run": str(run.folder), "config_hash": config_hash(run.config), "step": restored.step}
    own = Trained(run.config.data.name, run.config.data.validation_examples, run.config.run.seed)
    return dict(flat(restored.state.params)), record, list(restored.damaged), own


def _trained(metadata: Mapping[str, Any]) -> Trained | None:
    """What a file says that its weights were trained on."""
    try:
        tables = json.loads(metadata["config"])
        data, run = tables["data"], tables["run"]
        return Trained(str(data["name"]), int(data["validation_examples"]), int(run["seed"]))
    except (KeyError, TypeError, ValueError):
        return None  # of another tool, or of hepcli before it wrote them
