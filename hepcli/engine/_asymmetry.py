"""Measures of the Jacobian: its symmetric and antisymmetric part, and the stability of the fixed point."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Complex, Float, Int

from hepcli.engine._dynamics import drive
from hepcli.engine._homeostasis import activity_jacobian, draw_noise
from hepcli.engine._norms import example_norm
from hepcli.engine._types import Params, State, System

Product = Callable[[State], State]


class JacobianParts(NamedTuple):
    """Squared Frobenius norms of J's symmetric and antisymmetric part, real.

    ‖J‖_F² is their sum, tr J² their difference.
    """

    symmetric: Float[Array, "*draws batch"]
    antisymmetric: Float[Array, "*draws batch"]


def num_units(state: State) -> int:
    """Units of one example over all layers; the leading axis counts examples."""
    return sum(math.prod(u.shape[1:]) for u in state.values())


def per_example(constant: State, state: State) -> State:
    """The constant drive with the batch axis of `state`, so that an example can be taken out of both."""
    return {name: jnp.broadcast_to(constant[name], u.shape) for name, u in state.items()}


def jacobian_symmetry(parts: JacobianParts) -> Float[Array, "*draws batch"]:
    """S = ‖J_s‖/(‖J_s‖ + ‖J_a‖): 1 for a symmetric J, 0 for an antisymmetric one. Source: METHOD §5."""
    symmetric, antisymmetric = jnp.sqrt(parts.symmetric), jnp.sqrt(parts.antisymmetric)
    return symmetric / (symmetric + antisymmetric)


def exact_parts(system: System, params: Params, constant: State, activity: State) -> JacobianParts:
    """The parts of J from J itself, one example after the other.

    Args:
        system: the network.
        params: its parameters.
        constant: `System.input_drive` of the batch.
        activity: r* per layer (batch, *units), real.

    Returns:
        Two arrays (batch,). Memory grows with the square of the units.

    Source: METHOD §5.
    """

    def one_example(example: tuple[State, State]) -> JacobianParts:
        jacobian = activity_jacobian_matrix(system, params, *example)
        symmetric, antisymmetric = (jacobian + jacobian.T) / 2, (jacobian - jacobian.T) / 2
        return JacobianParts(jnp.sum(symmetric**2), jnp.sum(antisymmetric**2))

    result: JacobianParts = jax.lax.map(one_example, (per_example(constant, activity), activity))
    return result


def estimated_parts(
    system: System,
    params: Params,
    constant: State,
    activity: State,
    key: Array,
    num_draws: int,
    places: Int[Array, " batch"] | None = None,
) -> JacobianParts:
    """Hutchinson estimates of the parts of J: E‖J_s ε‖² and E‖J_a ε‖² for ε ~ N(0, I).

    One forward and one reverse product a draw. Unlike the difference of the estimates of ‖J‖_F² and
    tr J², neither can come out negative.

    Args:
        system: the network.
        params: its parameters.
        constant: `System.input_drive` of the batch.
        activity: r* per layer (batch, *units), real.
        key: random key of the draws.
        num_draws: draws for every example.
        places: of the examples, as `draw_noise` takes them.

    Returns:
        Two arrays (draws, batch), one estimate a draw.

    Source: Hutchinson (1989); METHOD §5.
    """
    product = activity_jacobian(system, params, constant, activity)
    transposed = jax.linear_transpose(product, activity)

    def one_draw(draw_key: Array) -> JacobianParts:
        noise = {name: own[0] for name, own in draw_noise(draw_key, activity, 1, places).items()}
        ahead, (back,) = product(noise), transposed(noise)
        half_sum = {name: (ahead[name] + back[name]) / 2 for name in ahead}
        half_difference = {name: (ahead[name] - back[name]) / 2 for name in ahead}
        return JacobianParts(example_norm(half_sum, 1) ** 2, example_norm(half_difference, 1) ** 2)

    result: JacobianParts = jax.lax.map(one_draw, jax.random.split(key, num_draws))
    return result


def activity_jacobian_matrix(
    system: System, params: Params, constant: State, activity: State
) -> Float[Array, "units units"]:
    """J = ∂F/∂r of one example as a matrix, layers in the network's order.

    Args:
        system: the network.
        params: its parameters.
        constant: the example's `System.input_drive`, without a batch axis.
        activity: the example's r*, without a batch axis.

    Returns:
        Row: what is driven; column: what drives. Source: METHOD §1, §4 (code).
    """
    example, base = _as_batch(activity), _as_batch(constant)
    return _matrix(activity_jacobian(system, params, base, example), system.layers, example)


def step_matrix(system: System, params: Params, constant: State, state: State) -> Float[Array, "units units"]:
    """The Jacobian 1 + ∂F/∂u of one synchronous step for one example, as `activity_jacobian_matrix`."""
    example, base = _as_batch(state), _as_batch(constant)
    return _matrix(step_product(system, params, base, example), system.layers, example)


def step_product(system: System, params: Params, constant: State, state: State) -> Product:
    """v ↦ (1 + ∂F/∂u) v: one free synchronous step linearised at u; both are (batch, *units), real.

    Source: METHOD §1.
    """

    def step(u: State) -> State:
        return drive(system, params, system.layers, u, constant)

    _, product = jax.linearize(step, state)
    return lambda v: dict(product(v))


def leading_eigenvalues(
    product: Product, like: State, key: Array, num_vectors: int
) -> tuple[Complex[Array, " batch"], Float[Array, " batch"]]:
    """The eigenvalue of largest modulus of a linear map, per example, by Arnoldi's method.

    Args:
        product: v ↦ M v, example by example.
        like: a state with the shapes and dtypes of v (batch, *units), real.
        key: random key of the starting vectors.
        num_vectors: dimension of the Krylov space; the result is exact once it reaches the number of units.

    Returns:
        The Ritz value λ of largest modulus, and its residual ‖M x − λ x‖ for ‖x‖ = 1.

    Source: Arnoldi (1951); Saad, "Numerical methods for large eigenvalue problems" (2011), §6.2.
    """
    layers = tuple(like)
    batch = like[layers[0]].shape[0]
    size = num_units(like)
    count = min(num_vectors, size)
    start = jax.random.normal(key, (batch, size), like[layers[0]].dtype)

    def expand(carry: tuple[Array, Array], index: Array) -> tuple[tuple[Array, Array], None]:
        basis, hessenberg = carry  # (count + 1, batch, size), (batch, count + 1, count)
        new = _flat(product(_unflat(basis[index], like)), layers)
        column = jnp.zeros((batch, count + 1), new.dtype)
        for _ in range(2):  # once more, because rounding spoils the first orthogonalisation
            overlap = jnp.einsum("kbn,bn->bk", basis, new)
            new = new - jnp.einsum("kbn,bk->bn", basis, overlap)
            column = column + overlap
        length = jnp.linalg.norm(new, axis=-1)
        # An invariant subspace: what is left is rounding, and must not become a direction.
        length = jnp.where(length > 1e-12 * jnp.linalg.norm(column, axis=-1), length, 0.0)
        unit = jnp.where(length[:, None] > 0, new / jnp.where(length > 0, length, 1.0)[:, None], 0.0)
        column = column.at[:, index + 1].set(length)
        return (basis.at[index + 1].set(unit), hessenberg.at[:, :, index].set(column)), None

    first = start / jnp.linalg.norm(start, axis=-1, keepdims=True)
    basis = jnp.zeros((count + 1, batch, size), start.dtype).at[0].set(first)
    empty = jnp.zeros((batch, count + 1, count), start.dtype)
    (_, hessenberg), _ = jax.lax.scan(expand, (basis, empty), jnp.arange(count))
    values, vectors = jnp.linalg.eig(hessenberg[:, :count, :])
    largest = jnp.argmax(jnp.abs(values), axis=-1)
    value = jnp.take_along_axis(values, largest[:, None], axis=1)[:, 0]
    last = jnp.take_along_axis(vectors[:, -1, :], largest[:, None], axis=1)[:, 0]
    return value, hessenberg[:, count, count - 1] * jnp.abs(last)


def _as_batch(example: State) -> State:
    return {name: value[None] for name, value in example.items()}


def _flat(state: State, layers: tuple[str, ...]) -> Array:
    return jnp.concatenate([state[name].reshape(state[name].shape[0], -1) for name in layers], axis=-1)


def _unflat(flat: Array, like: State) -> State:
    state, start = {}, 0
    for name, u in like.items():
        stop = start + u[0].size
        state[name] = flat[:, start:stop].reshape(u.shape)
        start = stop
    return state


def _matrix(product: Product, layers: tuple[str, ...], example: State) -> Array:
    """The matrix of a linear map on a batch of one."""
    ordered = {name: example[name] for name in layers}
    basis = jnp.eye(num_units(ordered), dtype=next(iter(ordered.values())).dtype)
    columns = jax.vmap(lambda v: _flat(product(_unflat(v[None], ordered)), layers)[0])(basis)
    return columns.T
