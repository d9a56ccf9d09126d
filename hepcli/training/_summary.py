"""What the measures of batches come to, with the keys of `hep measure-asymmetry --json`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from numpy.typing import NDArray

from hepcli.engine import Gradient, SignalSums, example_norm
from hepcli.settings import MEASURES
from hepcli.training._meter_records import BIASES, Sample
from hepcli.training._metrics import finite_or_none, share_of


class _Statistic(NamedTuple):
    """Mean and standard error over examples; None where there is nothing to average."""

    mean: float | None
    standard_error: float | None


def _statistic(values: NDArray[Any], *, undefined: bool = False) -> _Statistic:
    """Over the values; of some that are not finite there is none, unless they may be `undefined`."""
    defined = np.isfinite(values)
    if not defined.any() or not (undefined or defined.all()):
        return _Statistic(None, None)
    values = values[defined]
    error = float(values.std(ddof=1) / np.sqrt(values.size)) if values.size > 1 else None
    return _Statistic(float(values.mean()), error)


def summarise(samples: Sequence[Sample], counts: Sequence[NDArray[np.bool_]]) -> dict[str, Any]:
    """What the samples come to, with the keys of `hep measure-asymmetry --json`.

    Args:
        samples: one for each batch, on the host.
        counts: which examples of each count.

    Returns:
        Means over the examples with a fixed point and solved references, and for `finite_nudge` and `total`
        a finite signal of the run's own; their standard errors under ``standard_error``; which examples were
        left out, by their number, under ``left_out``.
    """
    chosen = np.concatenate(counts)

    def column(values: Sequence[Array]) -> NDArray[Any]:
        return np.concatenate([np.asarray(v) for v in values])[chosen]

    settled, solved = column([s.settled for s in samples]), column([s.solved for s in samples])
    finite = column([s.finite for s in samples])
    kept = settled & solved
    statistics = {
        key: _statistic(values if measure.of_all else values[kept])
        for key, measure in MEASURES.items()
        for values in [column([s.values[key] for s in samples])]
    }
    record: dict[str, Any] = {key: result.mean for key, result in statistics.items()}
    errors: dict[str, Any] = {key: result.standard_error for key, result in statistics.items()}
    own_settled = column([s.own_settled for s in samples])
    record["converged"] = float(own_settled.mean())
    record["unsettled"] = int((~own_settled).sum())
    record["unsettled_signal_share"] = _unsettled_share([s.sums for s in samples])
    for name in ("cosine", "relative_error"):
        tables = {
            bias: _by_layer(samples, bias, name, column, kept if bias == "asymmetry" else kept & finite)
            for bias in BIASES
        }
        record[name] = {bias: {k: v.mean for k, v in table.items()} for bias, table in tables.items()}
        errors[name] = {
            bias: {k: v.standard_error for k, v in table.items()} for bias, table in tables.items()
        }
    record["gradient_cosine"] = _gradient_cosine(samples)
    record["standard_error"] = errors
    record["examples_used"] = int(kept.sum())
    numbers = np.arange(kept.size)
    record["left_out"] = {
        "no_fixed_point": numbers[~settled].tolist(),
        "not_solved": numbers[settled & ~solved].tolist(),
        "not_finite": numbers[settled & solved & ~finite].tolist(),
    }
    record["largest_residual"] = {
        name: _largest(column([getattr(s, name) for s in samples])[kept])
        for name in ("fixed_point_residual", "hep_exact_residual", "rbp_residual", "spectral_residual")
    }
    return record


def _by_layer(
    samples: Sequence[Sample], bias: str, measure: str, column: Any, kept: NDArray[np.bool_]
) -> dict[str, _Statistic]:
    comparisons = [sample.biases[bias] for sample in samples]
    layers = list(getattr(samples[0].biases["asymmetry"], measure))
    if comparisons[0] is None:
        return dict.fromkeys(layers, _Statistic(None, None))
    return {
        name: _statistic(column([getattr(c, measure)[name] for c in comparisons])[kept], undefined=True)
        for name in layers
    }


def _gradient_cosine(samples: Sequence[Sample]) -> dict[str, float | None]:
    """Per connection and in total, readout left out: its gradient does not depend on the signal."""
    by_bptt = _summed([sample.bptt_gradient for sample in samples])
    if samples[0].own_gradient is None:
        return dict.fromkeys([*by_bptt, "total"])
    own = _summed([sample.own_gradient for sample in samples if sample.own_gradient is not None])
    own["total"], by_bptt["total"] = (np.concatenate(list(tree.values())) for tree in (own, by_bptt))
    return {name: _cosine(own[name], by_bptt[name]) for name in own}


def _unsettled_share(sums: Sequence[SignalSums | None]) -> float | None:
    """Norm of the error signals of unsettled examples, summed over all batches, over that of all's."""
    known = [own for own in sums if own is not None]
    if not known:
        return None
    total: SignalSums = jax.tree.map(lambda *leaves: sum(leaves), *known)
    return share_of(float(example_norm(total.unsettled, 0)), float(example_norm(total.total, 0)))


def _summed(gradients: Sequence[Gradient]) -> dict[str, NDArray[Any]]:
    """One vector a connection."""
    total: Mapping[str, Mapping[str, Any]] = jax.tree.map(lambda *leaves: sum(leaves), *gradients)
    return {
        name: np.concatenate([np.ravel(leaf) for leaf in weights.values()])
        for name, weights in total.items()
        if name != "readout"
    }


def _cosine(a: NDArray[Any], b: NDArray[Any]) -> float | None:
    sizes = float(np.linalg.norm(a) * np.linalg.norm(b))
    return finite_or_none(float(a @ b) / sizes) if sizes else None


def _largest(values: NDArray[Any]) -> float | None:
    return finite_or_none(float(values.max())) if values.size else None
