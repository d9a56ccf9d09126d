"""Optimisers and schedules; to add one: a function here and its line in `hepcli/settings/parts.py`."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import optax
from jax import Array

from hepcli.settings import OPTIMIZERS, SCHEDULES, OptimizerSettings

Tree = Mapping[str, Mapping[str, Array]]

Schedule = Callable[[float | Array, int], optax.Schedule]
"""Learning rate at the start and steps of the whole run -> learning rate by step."""


def constant(learning_rate: float | Array, total_steps: int) -> optax.Schedule:
    """The same learning rate throughout."""
    return optax.constant_schedule(learning_rate)


def cosine(learning_rate: float | Array, total_steps: int) -> optax.Schedule:
    """From the learning rate to 0 over all steps."""
    return optax.cosine_decay_schedule(learning_rate, total_steps)


def sgd(settings: OptimizerSettings, decay: optax.GradientTransformation) -> optax.GradientTransformation:
    """L2 is part of the gradient, so momentum sees it."""
    trace = optax.trace(settings.momentum, settings.nesterov) if settings.momentum else optax.identity()
    return optax.chain(decay, trace)


def adamw(settings: OptimizerSettings, decay: optax.GradientTransformation) -> optax.GradientTransformation:
    """Loshchilov & Hutter (2019): the decay bypasses the moments."""
    return optax.chain(optax.scale_by_adam(), decay)


def build_optimizer(
    settings: OptimizerSettings,
    total_steps: int,
    learning_rate: float | Array | None = None,
    fixed: Collection[str] = (),
) -> optax.GradientTransformation:
    """Assemble the optimiser; its updates are to be added to the parameters.

    Args:
        settings: the [optimizer] table.
        total_steps: steps of the whole run, for schedules that end.
        learning_rate: in place of that of the settings, perhaps traced; None for theirs.
        fixed: connections that do not learn.

    Returns:
        An Optax transformation over parameters {connection: {kernel, bias}}.
    """
    if learning_rate is not None:  # in the settings, too: parts of users may read it there
        settings = replace(settings, learning_rate=learning_rate)  # type: ignore[arg-type]
    decay = _decay_by_connection(settings.weight_decay, settings.weight_decay_multipliers)
    parts = [OPTIMIZERS[settings.name](settings, decay)]
    parts.append(
        optax.scale_by_learning_rate(SCHEDULES[settings.schedule](settings.learning_rate, total_steps))
    )
    multipliers = {**settings.learning_rate_multipliers, **dict.fromkeys(fixed, 0.0)}
    if multipliers:
        parts.append(_multiply_by_connection(multipliers))
    return optax.chain(*parts)


def _decay_by_connection(
    weight_decay: float, multipliers: Mapping[str, float]
) -> optax.GradientTransformation:
    """Add weight_decay · multiplier · parameter to the updates."""
    if weight_decay == 0:
        return optax.identity()

    def decayed(updates: Tree, params: Tree) -> Tree:
        return {
            name: {
                leaf: u + weight_decay * multipliers.get(name, 1.0) * params[name][leaf]
                for leaf, u in weights.items()
            }
            for name, weights in updates.items()
        }

    return optax.stateless(decayed)


def _multiply_by_connection(multipliers: Mapping[str, float]) -> optax.GradientTransformation:
    """Multiply the updates by a factor per connection."""

    def scaled(updates: Tree, params: Tree | None) -> Tree:
        return {
            name: {leaf: multipliers.get(name, 1.0) * u for leaf, u in weights.items()}
            for name, weights in updates.items()
        }

    return optax.stateless(scaled)
