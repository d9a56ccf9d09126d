"""Sums over examples, and what they come to."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepcli.engine import PhaseReport
from hepcli.training import finite_or_none, in_top, kernel_stds, means, zero_totals
from hepcli.training._metrics import add_totals, batch_totals

few = settings(derandomize=True, max_examples=50, deadline=None, database=None)


def top(scores, labels, k):
    return np.asarray(in_top(jnp.asarray(scores, jnp.float32), jnp.asarray(labels, jnp.int32), k)).tolist()


@few
@given(
    st.lists(st.lists(st.integers(-2, 2), min_size=6, max_size=6), min_size=3, max_size=3),
    st.integers(0, 5),
    st.sampled_from([1, 5]),
)
def test_in_top_is_membership_in_a_stable_sort(scores, label, k):
    expected = [label in np.argsort(-np.array(row), kind="stable")[:k] for row in scores]
    assert top(scores, [label] * 3, k) == expected


def test_ties_go_to_the_lower_class():
    assert top([[1, 1, 0], [1, 1, 0]], [0, 1], 1) == [True, False]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_never_right(bad):
    assert top([[bad, 1, 0], [2, bad, 0], [2, 1, 0]], [0, 0, 0], 1) == [False, False, True]
    assert top([[bad, 1, 0]], [1], 5) == [False]


def test_fewer_classes_than_k():
    assert top([[3, 2, 1]], [2], 5) == [True]


def report(residual, finite):
    residual = np.asarray(residual, np.float32)
    passes = jnp.full(residual.shape, 7, jnp.int32)
    return PhaseReport(jnp.asarray(residual), jnp.asarray(residual < 1e-3), jnp.asarray(finite), passes)


def one_batch(part, nudged=True):
    """The totals of a part of six examples."""
    rng = np.random.default_rng(0)
    losses, scores = rng.random(6).astype(np.float32), rng.standard_normal((6, 8)).astype(np.float32)
    labels = rng.integers(0, 8, 6).astype(np.int32)
    free = report(
        np.array([1e-9, 1e-2, 1e-4, 1e-2, 1e-4, 1e-6])[part], np.array([1, 1, 0, 1, 1, 1], bool)[part]
    )
    other = report(
        np.array([1e-9, 1e-2, 1e-2, 1e-2, 1e-4, 1.0])[part], np.array([1, 1, 0, 1, 1, 0], bool)[part]
    )
    return batch_totals(
        jnp.asarray(losses[part]), jnp.asarray(scores[part]), jnp.asarray(labels[part]), free,
        other if nudged else None, 0.25,
    )  # fmt: skip


def test_totals_add_up_over_uneven_batches():
    whole = one_batch(slice(0, 6))
    parts = zero_totals()
    for part in (slice(0, 4), slice(4, 5), slice(5, 6)):
        parts = add_totals(parts, one_batch(part))
    assert set(parts) == set(whole)
    for name, value in whole.items():
        assert parts[name].dtype == value.dtype
        expected = {"batches": 3, "passes": 21, "homeostatic_loss": 0.75}.get(name, value)
        np.testing.assert_allclose(parts[name], expected, rtol=1e-6)


def test_means_of_a_batch():
    found = means(one_batch(slice(0, 6)), nudged=True)
    assert found["examples"] == 6
    assert found["nonfinite"] == 2  # one in the free phase, one more in the nudged
    assert found["settled"] == pytest.approx(4 / 6)
    assert found["nudged_settled"] == pytest.approx(2 / 6)
    assert found["passes"] == 7
    expected = np.mean(np.log10(np.array([1e-9, 1e-2, 1e-4, 1e-2, 1e-4, 1e-6]) + 1e-8))
    assert found["log10_residual"] == pytest.approx(expected, rel=1e-5)
    assert 0 <= found["top1"] <= found["top5"] <= 1


def test_what_is_undefined_is_none():
    found = means(one_batch(slice(0, 6), nudged=False), nudged=False)
    assert found["nudged_log10_residual"] is None
    assert found["nudged_settled"] is None
    broken = add_totals(zero_totals(), one_batch(slice(0, 6))) | {"loss": jnp.float32(np.nan)}
    assert means(broken, nudged=True)["loss"] is None
    assert [finite_or_none(x) for x in (1.5, np.nan, np.inf, -np.inf)] == [1.5, None, None, None]


def test_kernel_stds():
    params = {"in-l1": {"kernel": jnp.asarray([[1.0, 3.0]]), "bias": jnp.zeros(2)}}
    params["readout"] = {"kernel": jnp.asarray([[np.nan]])}
    assert kernel_stds(params) == {"in-l1": 1.0, "readout": None}
