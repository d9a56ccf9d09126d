"""The one relaxation loop."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from hepcli.engine._sweep import Groups, make_sweep, num_sweeps, update_groups
from hepcli.engine._types import (
    CountedSweep,
    Params,
    Phase,
    PhaseReport,
    RelaxationSettings,
    State,
    Sweep,
    System,
)

T = TypeVar("T")


def example_norm(tree: Any, batch_ndim: int) -> Array:
    """Euclidean norm over all layers, real, one value per index of the leading `batch_ndim` axes."""

    def squares(leaf: Array) -> Array:
        if leaf.dtype.itemsize == 2:  # sums of squares leave the range of half precision
            leaf = leaf.astype(jnp.float32)
        magnitude = jnp.real(leaf * jnp.conj(leaf)) if jnp.iscomplexobj(leaf) else leaf * leaf
        return jnp.sum(magnitude, axis=tuple(range(batch_ndim, leaf.ndim)))

    return jnp.sqrt(sum(squares(leaf) for leaf in jax.tree.leaves(tree)))


def all_finite(tree: Any, batch_ndim: int) -> Array:
    """Whether every layer is finite, per index of the leading `batch_ndim` axes."""
    flags = [
        jnp.all(jnp.isfinite(leaf), axis=tuple(range(batch_ndim, leaf.ndim)))
        for leaf in jax.tree.leaves(tree)
    ]
    return jnp.stack(flags).all(axis=0)


def iterate(
    sweep: Callable[[T, int | Array], T], state: T, max_sweeps: int, tolerance: float, batch_ndim: int
) -> tuple[T, Array]:
    """Apply `sweep` until nothing moves: the loop behind every phase and every linear solve.

    An example that moves less than `tolerance` is not for that at a fixed point: it may be slow. One that
    alternates keeps the batch running to `max_sweeps`; one that is no longer finite does not.

    Args:
        sweep: the update, given how many went before it.
        state: where to start, any tree of arrays with the axes of the examples in front.
        max_sweeps: most updates.
        tolerance: stop once every example moved less than this in a sweep; 0 applies all `max_sweeps`,
            and only then can the loop be differentiated in reverse mode.
        batch_ndim: leading axes that count examples.

    Returns:
        The state and the number of updates (int32).
    """
    if tolerance == 0:
        end = jax.lax.fori_loop(0, max_sweeps, lambda count, u: sweep(u, count), state)
        return end, jnp.int32(max_sweeps)

    def unfinished(carry: tuple[T, Array, Array]) -> Array:
        _, count, moving = carry
        return (count < max_sweeps) & moving

    def advance(carry: tuple[T, Array, Array]) -> tuple[T, Array, Array]:
        old, count, _ = carry
        new = sweep(old, count)
        change = example_norm(jax.tree.map(jnp.subtract, new, old), batch_ndim)
        # An example that turned NaN never settles and must not keep the others running.
        return new, count + 1, jnp.any(change >= tolerance)

    end, count, _ = jax.lax.while_loop(unfinished, advance, (state, jnp.int32(0), jnp.bool_(True)))
    return end, count


def relax(
    system: System,
    params: Params,
    constant: State,
    state: State,
    *,
    steps: int,
    settings: RelaxationSettings,
    beta: Array | None = None,
    targets: Array | None = None,
    batch_ndim: int = 1,
    key: Array | None = None,
) -> Phase:
    """Run a phase: relax `state` towards the fixed point of F( · ; β).

    Args:
        system: the network.
        params: its parameters, real.
        constant: `System.input_drive` of the batch.
        state: pre-activations to start from, complex for a complex nudge.
        steps: steps in the sense of the synchronous dynamics.
        settings: solver, tolerance and threshold of convergence.
        beta: nudge; None for the free phase.
        targets: targets, needed with `beta`.
        batch_ndim: leading axes of the state that count examples (1, or 2 with several nudges at once).
        key: where the noise grows from, needed where there is any.

    Returns:
        The final state with its true residual, per-example flags and the sweeps run.

    Source: paper, Eq. 1–3 (METHOD §1).
    """

    def dynamics(groups: Groups) -> Sweep:
        return make_sweep(system, params, groups, constant, beta, targets)

    groups = update_groups(system, settings.solver)
    return run_phase(dynamics, groups, state, steps, settings, batch_ndim, key)


def run_phase(
    dynamics: Callable[[Groups], Sweep],
    groups: Groups,
    state: State,
    steps: int,
    settings: RelaxationSettings,
    batch_ndim: int,
    key: Array | None = None,
) -> Phase:
    """Run a phase of any dynamics.

    Args:
        dynamics: groups of layers -> the update of one group after the other.
        groups: groups to update in turn.
        state: where to start.
        steps: steps in the sense of the synchronous dynamics.
        settings: tolerance, threshold of convergence and noise.
        batch_ndim: leading axes of the state that count examples.
        key: where the noise grows from, needed where there is any.

    Returns:
        The final state; its residual is how far the synchronous step without noise would move it.
    """
    sweeps = num_sweeps(len(groups), steps)
    sweep = with_noise(dynamics, groups, settings.noise_std, key)
    end, count = iterate(sweep, state, sweeps, settings.tolerance, batch_ndim)
    everything = tuple(name for group in groups for name in group)
    moved = dynamics((everything,))(end)
    residual = example_norm({name: moved[name] - end[name] for name in end}, batch_ndim)
    finite = all_finite(end, batch_ndim)
    return Phase(end, residual, residual <= settings.converged_residual, finite, count)


def with_noise(
    dynamics: Callable[[Groups], Sweep], groups: Groups, noise_std: float, key: Array | None
) -> CountedSweep:
    """The update of one group after the other, each followed by the noise of its layers.

    The groups after it see the noise, so that a chain of the synchronous dynamics (`alternating_groups`)
    receives in every one of its steps what it would receive there.

    Args:
        dynamics: groups of layers -> the update of one group after the other.
        groups: groups to update in turn.
        noise_std: standard deviation; of complex noise, the root of the mean squared magnitude.
        key: folded with the number of the sweep and of the group.

    Returns:
        The update, given how many went before it.

    Raises:
        ValueError: there is noise but no key.
    """
    if noise_std == 0:
        whole = dynamics(groups)
        return lambda state, count: whole(state)
    if key is None:
        raise ValueError("noise_std is not 0: the problem needs a key")
    parts = [(group, dynamics((group,))) for group in groups]

    def sweep(state: State, count: int | Array) -> State:
        sweep_key = jax.random.fold_in(key, count)
        for number, (group, part) in enumerate(parts):
            state = part(state)
            keys = jax.random.split(jax.random.fold_in(sweep_key, number), len(group))
            noisy = {
                name: state[name] + noise_std * jax.random.normal(own, state[name].shape, state[name].dtype)
                for own, name in zip(keys, group, strict=True)
            }
            state = state | noisy
        return state

    return sweep


def report(phase: Phase) -> PhaseReport:
    """What a phase leaves on record: per example the worst over all leading axes."""
    leading = tuple(range(phase.residual.ndim - 1))
    worst: Callable[[Array], Array] = lambda flag: jnp.all(flag, axis=leading)  # noqa: E731
    return PhaseReport(
        jnp.max(phase.residual, axis=leading), worst(phase.converged), worst(phase.finite), phase.sweeps
    )


def log10_residual(residual: Array) -> Array:
    """log10 of a residual with the reference code's floor of 1e-8."""
    return jnp.log10(residual + 1e-8)
