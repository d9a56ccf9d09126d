"""Sums over examples, gathered on the device, and what they come to."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from hepcli.engine import Params, PhaseReport, SignalSums, State, example_norm, log10_residual

Totals = dict[str, Array]
"""Sums over the examples seen so far: float32 sums and int32 counts."""

_SUMS = (
    "loss",
    "log10_residual",
    "nudged_log10_residual",
    "homeostatic_loss",
    "passes",
    "signal",
    "unsettled_signal",
)
_COUNTS = ("examples", "batches", "top1", "top5", "settled", "nudged_settled", "nonfinite")


def zero_totals() -> Totals:
    """Sums of nothing."""
    sums = {name: jnp.zeros((), jnp.float32) for name in _SUMS}
    return sums | {name: jnp.zeros((), jnp.int32) for name in _COUNTS}


def in_top(
    scores: Float[Array, "batch classes"], labels: Int[Array, " batch"], k: int
) -> Bool[Array, " batch"]:
    """Whether the label is among the k highest scores, ties going to the lower class.

    An example with a score that is not finite is never right.
    """
    classes = jnp.arange(scores.shape[-1])
    own = jnp.take_along_axis(scores, labels[:, None], axis=-1)
    ahead = (scores > own) | ((scores == own) & (classes < labels[:, None]))
    return (ahead.sum(axis=-1) < k) & jnp.isfinite(scores).all(axis=-1)


def batch_totals(
    losses: Float[Array, " batch"],
    scores: Float[Array, "batch classes"],
    labels: Int[Array, " batch"],
    free: PhaseReport,
    nudged: PhaseReport | None,
    homeostatic_loss: Array | float = 0.0,
    signal: SignalSums | None = None,
) -> Totals:
    """The sums of one batch; of the error signals the norms of theirs."""
    finite = free.finite if nudged is None else free.finite & nudged.finite
    unsettled, total = ({}, {}) if signal is None else signal
    return {
        "loss": losses.sum().astype(jnp.float32),
        "log10_residual": log10_residual(free.residual).sum().astype(jnp.float32),
        "nudged_log10_residual": jnp.float32(0) if nudged is None else log10_residual(nudged.residual).sum(),
        "homeostatic_loss": jnp.float32(homeostatic_loss),
        "passes": free.passes.mean(dtype=jnp.float32),
        "signal": _norm(total),
        "unsettled_signal": _norm(unsettled),
        "examples": jnp.int32(labels.shape[0]),
        "batches": jnp.int32(1),
        "top1": in_top(scores, labels, 1).sum(dtype=jnp.int32),
        "top5": in_top(scores, labels, 5).sum(dtype=jnp.int32),
        "settled": free.settled.sum(dtype=jnp.int32),
        "nudged_settled": jnp.int32(0) if nudged is None else nudged.settled.sum(dtype=jnp.int32),
        "nonfinite": (~finite).sum(dtype=jnp.int32),
    }


def _norm(signal: State) -> Array:
    return jnp.asarray(example_norm(signal, 0), jnp.float32)


def add_totals(total: Totals, new: Totals) -> Totals:
    """Element-wise sum."""
    return {name: value + new[name] for name, value in total.items()}


def means(totals: Totals, *, nudged: bool) -> dict[str, float | int | None]:
    """Means over examples: shares for top-1, top-5 and settled; what is undefined is None.

    Args:
        totals: sums over at least one example.
        nudged: whether there was a nudged phase to report.

    Returns:
        Plain numbers, ready for JSON. `unsettled` counts the examples whose free phase did not settle, and
        `unsettled_signal_share` is the norm of their summed error signals over that of all examples', both
        summed over the batches; None where there were no signals.
    """
    host = {name: value.item() for name, value in jax.device_get(totals).items()}
    examples, batches = host["examples"], host["batches"]
    names = ("loss", "top1", "top5", "log10_residual", "settled")
    nudged_names = ("nudged_log10_residual", "nudged_settled")
    result: dict[str, float | int | None] = {name: finite_or_none(host[name] / examples) for name in names}
    result |= {name: finite_or_none(host[name] / examples) if nudged else None for name in nudged_names}
    return result | {
        "passes": host["passes"] / batches,
        "unsettled": examples - host["settled"],
        "unsettled_signal_share": share_of(host["unsettled_signal"], host["signal"]),
        "nonfinite": host["nonfinite"],
        "examples": examples,
    }


def share_of(part: float, whole: float) -> float | None:
    """The ratio; None where the whole is nothing, or not finite."""
    return finite_or_none(part / whole) if whole else None


def finite_or_none(value: float) -> float | None:
    """JSON knows no NaN: what is not finite is null."""
    return value if math.isfinite(value) else None


def kernel_stds(params: Params) -> Mapping[str, Any]:
    """Standard deviation of the kernel of every connection, and of the readout's."""
    return {name: finite_or_none(float(std)) for name, std in jax.device_get(_kernel_stds(params)).items()}


@jax.jit
def _kernel_stds(params: Params) -> dict[str, Array]:
    return {name: jnp.std(weights["kernel"]) for name, weights in params.items()}
