"""Jacobian homeostasis: the loss on the antisymmetric part of the Jacobian."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from hepcli.engine._dynamics import drive_at
from hepcli.engine._types import Gradient, Params, State, System

_MOST_AT_ONCE = 1 << 25
"""Normal draws, 128 MB of them; what is computed of each takes up to a hundred times as much."""


def activity_jacobian(
    system: System, params: Params, constant: State, activity: State
) -> Callable[[State], State]:
    """v ↦ J v, with J = ∂F/∂r at the activity r: F differentiated with the activation bypassed.

    Args:
        system: the network.
        params: its parameters.
        constant: `System.input_drive` of the batch.
        activity: r* per layer (batch, *units), real.

    Returns:
        The forward product with J, in activity coordinates. Source: METHOD §1, §4 (code).
    """

    def field(r: State) -> State:
        return {
            name: new - r[name] for name, new in drive_at(system, params, system.layers, r, constant).items()
        }

    return lambda tangent: jax.jvp(field, (activity,), (tangent,))[1]


def draw_noise(
    key: Array, activity: State, num_draws: int, places: Int[Array, " batch"] | None = None
) -> State:
    """ε ~ N(0, I): per layer (draws, batch, *units), real.

    The draws of an example depend on its place in the batch alone, so that parts of a batch can be drawn
    apart.

    Args:
        key: random key of the draws.
        activity: r per layer (batch, *units), for the shapes.
        num_draws: draws for each example.
        places: of the examples in the batch; None for all of it in order.
    """
    places = jnp.arange(next(iter(activity.values())).shape[0]) if places is None else places
    keys = jax.random.split(key, len(activity))

    def draws(layer_key: Array, r: Array) -> Array:
        own = jax.vmap(jax.random.fold_in, (None, 0))(layer_key, places)
        return jax.vmap(lambda k: jax.random.normal(k, (num_draws, *r.shape[1:]), r.dtype), out_axes=1)(own)

    return {name: draws(k, r) for k, (name, r) in zip(keys, sorted(activity.items()), strict=True)}


def homeostatic_loss(
    system: System, params: Params, constant: State, activity: State, noise: State
) -> Float[Array, ""]:
    """E_ε[‖Jε‖² − εᵀJ²ε] / n, an estimate of 2‖A‖_F²/n with A = (J − Jᵀ)/2.

    It is a property of the Jacobian at an activity, whether or not that is a fixed point: examples that have
    not settled count like all others, `relaxation.unsettled = "skip"` or not.

    Args:
        system: the network.
        params: its parameters.
        constant: `System.input_drive` of the batch.
        activity: r* = σ(u*) per layer (batch, *units), real, held fixed.
        noise: standard normal draws, per layer (draws, batch, *units), real.

    Returns:
        The mean over draws and examples, divided by the number n of state units.

    Source: Laborieux & Zenke (2024), Eq. 12 (METHOD §4).
    """
    product = activity_jacobian(system, params, constant, activity)

    def one_draw(epsilon: State) -> Array:
        once = product(epsilon)
        twice = product(once)
        parts = [jnp.sum(once[name] ** 2 - epsilon[name] * twice[name]) for name in epsilon]
        return jnp.stack(parts).sum()

    batch = next(iter(activity.values())).shape[0]
    units = sum(r[0].size for r in activity.values())
    every = jax.lax.map(one_draw, noise) if _is_large(noise) else jax.vmap(one_draw)(noise)
    return jnp.mean(every) / (batch * units)


def homeostatic_gradient(
    system: System, params: Params, inputs: Array, activity: State, noise: State
) -> tuple[Float[Array, ""], Gradient]:
    """`homeostatic_loss` and its parameter gradient, the activity held fixed.

    Args:
        system: the network.
        params: its parameters, real.
        inputs: real (batch, …).
        activity: r* per layer (batch, *units), real.
        noise: as for `homeostatic_loss`.

    Returns:
        The loss, a real scalar, and its gradient, like the parameters.

    Source: Laborieux & Zenke (2024), Eq. 12 (METHOD §4).
    """

    def loss(params: Params, noise: State) -> Array:
        constant = system.input_drive(params, inputs)
        return homeostatic_loss(system, params, constant, activity, noise)

    if not _is_large(noise):
        value, gradient = jax.value_and_grad(loss)(params, noise)
        return value, gradient

    def add_draw(total: tuple[Array, Gradient], epsilon: State) -> tuple[tuple[Array, Gradient], None]:
        one = {name: own[None] for name, own in epsilon.items()}
        return jax.tree.map(jnp.add, total, jax.value_and_grad(loss)(params, one)), None

    nothing = jax.tree.map(
        lambda own: jnp.zeros(own.shape, own.dtype), jax.eval_shape(jax.value_and_grad(loss), params, noise)
    )
    total, _ = jax.lax.scan(add_draw, nothing, noise)
    mean: tuple[Float[Array, ""], Gradient] = jax.tree.map(lambda own: own / _num_draws(noise), total)
    return mean


def _num_draws(noise: State) -> int:
    return len(next(iter(noise.values())))


def _is_large(noise: State) -> bool:
    """Whether draws are taken one by one: one alone fills a device, and all take several times its memory."""
    return sum(own.size for own in noise.values()) > _MOST_AT_ONCE
