"""Optimisers and schedules by name: a new one is one function and one line."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import optax
from jax import Array

from hepcli.engine import Params

Tree = Mapping[str, Mapping[str, Array]]


class OptimizerSettings(NamedTuple):
    """How parameters follow the gradient.

    Attributes:
        name: key of `OPTIMIZERS`.
        learning_rate: before schedule and multipliers; traced where runs that differ in it train together.
        schedule: key of `SCHEDULES`.
        momentum: of `sgd`, 0 to below 1.
        weight_decay: L2 factor of `sgd` (added to the gradient), decoupled decay of `adamw`.
        learning_rate_multipliers: connection or ``readout`` -> factor, 1 where not named.
        weight_decay_multipliers: the same for the weight decay.
        total_steps: steps of the whole run, for schedules that end.
    """

    name: str
    learning_rate: float | Array
    schedule: str
    momentum: float
    weight_decay: float
    learning_rate_multipliers: Mapping[str, float]
    weight_decay_multipliers: Mapping[str, float]
    total_steps: int


def _constant(settings: OptimizerSettings) -> optax.Schedule:
    return optax.constant_schedule(settings.learning_rate)


def _cosine(settings: OptimizerSettings) -> optax.Schedule:
    """From the learning rate to 0 over all steps."""
    return optax.cosine_decay_schedule(settings.learning_rate, settings.total_steps)


SCHEDULES: dict[str, Callable[[OptimizerSettings], optax.Schedule]] = {
    "constant": _constant,
    "cosine": _cosine,
}


def _sgd(settings: OptimizerSettings, decay: optax.GradientTransformation) -> optax.GradientTransformation:
    """L2 is part of the gradient, so momentum sees it."""
    return optax.chain(decay, optax.trace(settings.momentum) if settings.momentum else optax.identity())


def _adamw(settings: OptimizerSettings, decay: optax.GradientTransformation) -> optax.GradientTransformation:
    """Loshchilov & Hutter (2019): the decay bypasses the moments."""
    return optax.chain(optax.scale_by_adam(), decay)


OPTIMIZERS: dict[
    str, Callable[[OptimizerSettings, optax.GradientTransformation], optax.GradientTransformation]
] = {"sgd": _sgd, "adamw": _adamw}


def build_optimizer(settings: OptimizerSettings) -> optax.GradientTransformation:
    """Assemble the optimiser; its updates are to be added to the parameters.

    Args:
        settings: what to build.

    Returns:
        An Optax transformation over parameters {connection: {kernel, bias}}.

    Raises:
        KeyError: unknown optimiser or schedule.
    """
    decay = _decay_by_connection(settings.weight_decay, settings.weight_decay_multipliers)
    parts = [OPTIMIZERS[settings.name](settings, decay)]
    parts.append(optax.scale_by_learning_rate(SCHEDULES[settings.schedule](settings)))
    if settings.learning_rate_multipliers:
        parts.append(_multiply_by_connection(settings.learning_rate_multipliers))
    return optax.chain(*parts)


def _decay_by_connection(
    weight_decay: float, multipliers: Mapping[str, float]
) -> optax.GradientTransformation:
    """Add weight_decay · multiplier · parameter to the updates."""
    if weight_decay == 0:
        return optax.identity()

    def update(updates: Tree, state: optax.OptState, params: Tree) -> tuple[Tree, optax.OptState]:
        decayed = {}
        for name, weights in updates.items():
            factor = weight_decay * multipliers.get(name, 1.0)
            decayed[name] = {leaf: u + factor * params[name][leaf] for leaf, u in weights.items()}
        return decayed, state

    return optax.GradientTransformation(_no_state, update)


def _multiply_by_connection(multipliers: Mapping[str, float]) -> optax.GradientTransformation:
    """Multiply the updates by a factor per connection."""

    def update(
        updates: Tree, state: optax.OptState, params: Tree | None = None
    ) -> tuple[Tree, optax.OptState]:
        scaled = {
            name: {leaf: multipliers.get(name, 1.0) * u for leaf, u in weights.items()}
            for name, weights in updates.items()
        }
        return scaled, state

    return optax.GradientTransformation(_no_state, update)


def _no_state(params: Params) -> optax.OptState:
    return optax.EmptyState()
