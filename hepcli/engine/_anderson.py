"""Anderson mixing, example by example, with a guard against mixed states that are worse."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int

from hepcli.engine._norms import exact_dtype, example_norm

_NEAR = 0.01  # of the state's norm: a pass that moves it further is not in the linear range
_LONGEST_PAUSE = 16  # passes without mixing after repeated rejections

Pass = Callable[[Any, int | Array], Any]


class Mixed(NamedTuple):
    """How far mixing has come; states are written as rows of real numbers.

    Attributes:
        value: what the newest pass that counts came to, a tree.
        trial: where the next pass starts.
        change: how far the newest pass that counts moved its own start.
        size: norm of `change`; infinite before the first pass.
        values: differences between successive `value`s.
        changes: differences between successive `change`s.
        products: of `changes` with each other.
        valid: which of them hold.
        is_mixed: whether `trial` is a mixture.
        wait: passes left without mixing.
        pause: how many there will be after the next rejection.
        has_mixed: whether any `trial` was one.
        before: `value` when the first mixture was made of it.
    """

    value: Float[Array, "batch numbers"]
    trial: Float[Array, "batch numbers"]
    change: Float[Array, "batch numbers"]
    size: Float[Array, " batch"]
    values: Float[Array, "batch memory numbers"]
    changes: Float[Array, "batch memory numbers"]
    products: Float[Array, "batch memory memory"]
    valid: Bool[Array, "batch memory"]
    is_mixed: Bool[Array, " batch"]
    wait: Int[Array, " batch"]
    pause: Int[Array, " batch"]
    has_mixed: Bool[Array, " batch"]
    before: Float[Array, "batch numbers"]


@dataclass(frozen=True)
class Anderson:
    """The next state is the mixture of the last ones whose mixed change is smallest.

    Every mixture is tried out by the pass that starts from it. Where that pass moves the state further than
    the last one did, it does not count: the example goes on from where it was, without mixing for a number of
    passes that doubles. Mixing begins once a pass moves a state by less than a hundredth of its norm, so that
    an example that is still far away goes where plain passes take it. Mixtures are real, so that complex
    states keep their symmetry, and a fixed point is one with or without mixing.

    Attributes:
        memory: differences that are remembered.

    Source: Anderson (1965); Walker & Ni (2011), "Anderson acceleration for fixed-point iterations", §2.
    """

    memory: int

    def start(self, value: Any) -> Mixed:
        """Before the first pass; `value` is a tree of arrays with the examples in front."""
        rows = _to_rows(value)
        (batch, numbers), memory = rows.shape, self.memory
        exact = exact_dtype(rows)
        history, never = jnp.zeros((batch, memory, numbers), rows.dtype), jnp.zeros(batch, jnp.bool_)
        return Mixed(
            rows, rows, jnp.zeros_like(rows), jnp.full(batch, jnp.inf, exact),
            history, history, jnp.zeros((batch, memory, memory), exact),
            jnp.zeros((batch, memory), jnp.bool_), never,
            jnp.zeros(batch, jnp.int32), jnp.ones(batch, jnp.int32), never, rows,
        )  # fmt: skip

    def value(self, carry: Mixed, like: Any) -> Any:
        """The state that was come to, as a tree like `like`."""
        return _from_rows(carry.value, like)

    def advance(self, step: Pass, carry: Mixed, like: Any, count: int | Array) -> tuple[Mixed, Array]:
        """One pass, and how far it moved each example: infinitely where it does not count."""
        image = _to_rows(step(_from_rows(carry.trial, like), count))
        change = image - carry.trial
        size = example_norm(change, 1)
        is_worse = carry.is_mixed & ~(size <= carry.size)
        carry = self._remember(carry, image, change, is_worse, count % self.memory)
        size = jnp.where(is_worse, carry.size, size)
        pause = jnp.where(is_worse, jnp.minimum(2 * carry.pause, _LONGEST_PAUSE), carry.pause)
        wait = jnp.where(is_worse, pause, jnp.maximum(carry.wait - 1, 0))
        mixture = carry.value - _dot("em,emn->en", self._weights(carry), carry.values).astype(image.dtype)
        mixes = carry.valid.any(axis=1) & (wait == 0) & (size < _NEAR * example_norm(carry.value, 1))
        trial = jnp.where(mixes[:, None], mixture, carry.value)
        moved = jnp.where(is_worse, jnp.inf, size)
        before = jnp.where(carry.has_mixed[:, None], carry.before, carry.value)
        return carry._replace(
            trial=trial, size=size, is_mixed=mixes, wait=wait, pause=pause,
            has_mixed=carry.has_mixed | mixes, before=before,
        ), moved  # fmt: skip

    def keep(self, moving: Array, new: Mixed, old: Mixed) -> Mixed:
        """The new state where examples move; of the others only these three are read again."""
        rows = moving[:, None]
        return new._replace(
            value=jnp.where(rows, new.value, old.value),
            has_mixed=jnp.where(moving, new.has_mixed, old.has_mixed),
            before=jnp.where(rows, new.before, old.before),
        )

    def disturbance(self, carry: Mixed, like: Any) -> Any:
        """A direction in which a state that mixing came to may be unstable, of norm 1, as a tree like `like`.

        Half of it leads back to where mixing began: the passes before have made that long in the directions
        in which they shrink least, or grow. The other half is random, the same for all examples.
        """
        exact = exact_dtype(carry.value)
        back = (carry.before - carry.value).astype(exact)
        random = jax.random.normal(jax.random.key(0), back.shape[1:], exact)
        side = jnp.where(back @ random < 0, -1, 1)[:, None]  # so that the halves never cancel
        both = _unit(back) + _unit(side * random)
        return _from_rows(_unit(both).astype(carry.value.dtype), like)

    def _remember(
        self, carry: Mixed, image: Array, change: Array, is_worse: Array, slot: int | Array
    ) -> Mixed:
        """Take the newest pass into the history, or forget that where it does not count."""
        worse = is_worse[:, None]
        values = carry.values.at[:, slot].set(jnp.where(worse, 0, image - carry.value))
        difference = jnp.where(worse, 0, change - carry.change)
        changes = carry.changes.at[:, slot].set(difference)
        row = _dot("emn,en->em", changes, difference)
        has_last = jnp.isfinite(carry.size)
        return carry._replace(
            value=jnp.where(worse, carry.value, image),
            change=jnp.where(worse, carry.change, change),
            values=values,
            changes=changes,
            products=carry.products.at[:, slot, :].set(row).at[:, :, slot].set(row),
            valid=~worse & carry.valid.at[:, slot].set(has_last),
        )

    def _weights(self, carry: Mixed) -> Array:
        """γ that makes ‖change − Σ γ changes‖ smallest; 0 for what does not hold."""
        both = carry.valid[:, :, None] & carry.valid[:, None, :]
        matrix = jnp.where(both, carry.products, 0)
        aims = jnp.where(carry.valid, _dot("emn,en->em", carry.changes, carry.change), 0)
        scale = jnp.trace(matrix, axis1=1, axis2=2)
        limits = np.finfo(matrix.dtype)
        floor = 8 * limits.eps * scale + limits.tiny
        return _solve(matrix + floor[:, None, None] * jnp.eye(self.memory, dtype=matrix.dtype), aims)


def _unit(rows: Array) -> Array:
    """Rows of norm 1; of zeros, zeros."""
    size = example_norm(rows, 1)[:, None]
    return jnp.where(size > 0, rows / jnp.where(size > 0, size, 1), 0)


def _solve(matrix: Float[Array, "batch m m"], aims: Float[Array, "batch m"]) -> Float[Array, "batch m"]:
    """Solve small positive definite systems by elimination; for so few unknowns LAPACK's calls cost more."""
    size = aims.shape[-1]
    rows = [[matrix[:, i, j] for j in range(size)] + [aims[:, i]] for i in range(size)]
    for k in range(size):
        for i in range(k + 1, size):
            factor = rows[i][k] / rows[k][k]
            rows[i] = [low - factor * high for low, high in zip(rows[i], rows[k], strict=True)]
    solution: list[Array] = []
    for k in reversed(range(size)):
        known = sum((a * x for a, x in zip(rows[k][k + 1 : size], solution, strict=True)), start=0.0)
        solution.insert(0, (rows[k][size] - known) / rows[k][k])
    return jnp.stack(solution, axis=1)


def _dot(subscripts: str, left: Array, right: Array) -> Array:
    """A sum of products, at least in single precision."""
    exact = exact_dtype(right)
    return jnp.einsum(subscripts, left.astype(exact), right.astype(exact))


def _to_rows(tree: Any) -> Float[Array, "batch numbers"]:
    """A row of real numbers for each example, complex ones as two."""
    flat = [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(tree)]
    parts = [part for leaf in flat for part in ((leaf.real, leaf.imag) if _is_complex(leaf) else (leaf,))]
    return jnp.concatenate(parts, axis=1)


def _from_rows(rows: Float[Array, "batch numbers"], like: Any) -> Any:
    """The tree that `_to_rows` made rows of."""
    leaves, treedef = jax.tree.flatten(like)
    first, result = 0, []

    def part(leaf: Array) -> Array:
        nonlocal first
        numbers = leaf[:1].size
        first += numbers
        return rows[:, first - numbers : first].reshape(rows.shape[0], *leaf.shape[1:])

    for leaf in leaves:
        result.append(jax.lax.complex(part(leaf), part(leaf)) if _is_complex(leaf) else part(leaf))
    return jax.tree.unflatten(treedef, result)


def _is_complex(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.complexfloating)
