"""Error signals and gradients of a batch, by any estimator."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Int, UInt8

from hepcli.api._model import Model, own_programs
from hepcli.api._open import opened
from hepcli.api._session import Overrides, in_session, set_once, split_overrides
from hepcli.config import Config, differences, load_config, read_settings
from hepcli.engine import Estimate, Params, Problem, draws_random_numbers, estimator_of
from hepcli.engine import estimate as estimate_problem
from hepcli.errors import ConfigError
from hepcli.experiments.compiled import network_of_method
from hepcli.experiments.saved import EVERY_METHOD_ALLOWS
from hepcli.networks import Network
from hepcli.settings import ESTIMATORS, DataSettings, GradientSettings, RelaxationSettings, traits_of
from hepcli.training import normalizer


@in_session
def estimate(
    model: Model | str | Path,
    images: UInt8[np.ndarray, "batch height width channels"],
    labels: Int[np.ndarray, " batch"],
    method: str | None = None,
    overrides: Overrides | None = None,
) -> Estimate:
    """The error signals and gradient of a batch, and how its phases ended.

    The batch runs as one; a run's optimiser would add homeostasis and weight decay to this gradient.

    Args:
        model: a run or an untrained network, or the path of a run: short for `load_run(path)`.
        images: pixels of 0 … 255.
        labels: classes, whole numbers from 0.
        method: estimator, such as "rbp"; None for the model's own. Those without feedback
            (`feedforward`, `dual_propagation`, `predictive_coding`) compute it in the network without its
            feedback connections, whose signals and gradients are not comparable with the others'.
        overrides: settings of [gradient] and [relaxation] to change, such as ``{"gradient.num_points": 4}``.

    Returns:
        NumPy arrays: `error_vector` per layer (batch, *units), real, None for `bptt`; `gradient` of the
        mean loss, connection -> kernel and bias, which a step of gradient descent would subtract (over
        settled examples with ``relaxation.unsettled = "skip"``; of rules that follow no gradient of the
        loss, their own); `state`, the pre-activations; `free` and `nudged`, residual and flags of the
        phases.

    Raises:
        CheckpointError: not a run, nothing intact, or of another network.
        CodeError: a component returns the wrong shape or type, or a file with components is missing, has
            changed or cannot be loaded.
        ConfigError: a method or setting that is not allowed or does not suit this network.
        DatasetError: there is no such data set, or it no longer has the examples of the run.
        ValueError: the images are not such an array, or `labels` is not one class for each image.

    Example:
        >>> small = {"network.layers.l1.units": 16, "network.layers.l2.units": 12}
        >>> model = hepcli.init_model("quickstart", small)
        >>> images, labels, *_ = model.split("train")
        >>> true = hepcli.estimate(model, images[:8], labels[:8], "rbp")
        >>> own = hepcli.estimate(model, images[:8], labels[:8], "hep", {"gradient.num_points": 4})
        >>> own.error_vector["l1"].shape, own.gradient["l1-l2"]["kernel"].shape
        ((8, 16), (16, 12))
        >>> a, b = (result.gradient["in-l1"]["kernel"].ravel() for result in (own, true))
        >>> bool(a @ b > 0.9 * (a @ a) ** 0.5 * (b @ b) ** 0.5)
        True
    """
    model = opened(model)
    model._task.make_current()
    images = model.checked_images(images)
    labels = model.checked_labels(labels, images)
    texts, flags = split_overrides(overrides)
    set_once(flags, "gradient.method", method)
    asked_for, _ = read_settings(texts, flags)
    plain = _without_training(model.config, asked_for.get("gradient.method"))
    config = load_config(plain.model_dump(mode="json"), texts, flags, is_new=False).config
    _check_tables(plain, config)
    own, asked = model.config.gradient.method, config.gradient.method
    if estimator_of(own).is_feedforward and not estimator_of(asked).is_feedforward:
        raise ConfigError(
            f"gradient.method = {asked}: this model has no feedback, because it was opened with {own}.",
            f"Open or make it with overrides={{'gradient.method': '{asked}'}}.",
        )
    network = network_of_method(model.network, config.gradient)
    settings = own_programs(model, config), network, model.config.data, config.relaxation, config.gradient
    result: Estimate = jax.device_get(
        _estimate(*settings, model.weights_as_read, jnp.asarray(images), jnp.asarray(labels))
    )
    return result


def _without_training(config: Config, method: object) -> Config:
    """The configuration without what an estimate does not read, and `method` may not allow."""
    neutral = dict(EVERY_METHOD_ALLOWS)
    if method in ESTIMATORS and not traits_of(str(method)).uses_circle:
        neutral["gradient.beta_sign"] = "positive"
    tables = {}
    for key, value in neutral.items():
        table, _, name = key.partition(".")
        tables[table] = replace(getattr(config, table), **{name: value})
    return config.model_copy(update=tables)


def _check_tables(own: Config, asked: Config) -> None:
    """Check that nothing but the tables that are used here is changed.

    Raises:
        ConfigError: a setting would be ignored.
    """
    for key, *_ in differences(own, asked):
        if key.partition(".")[0] not in ("gradient", "relaxation"):
            raise ConfigError(
                f"{key}: an estimate can change only settings of [gradient] and [relaxation].",
                "Open or make the model with this setting: load_run(…, overrides=…), init_model(…).",
            )


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _estimate(
    programs: object,
    network: Network,
    data: DataSettings,
    relaxation: RelaxationSettings,
    gradient: GradientSettings,
    params: Params,
    images: Array,
    labels: Array,
) -> Any:
    inputs = normalizer(data)(images)
    targets = jax.nn.one_hot(labels, network.num_classes, dtype=inputs.dtype)
    key = jax.random.key(0) if draws_random_numbers(relaxation, gradient) else None
    return estimate_problem(Problem(network, params, inputs, targets, relaxation, gradient, key))
