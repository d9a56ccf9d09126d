"""The evaluator."""

import gc
import weakref
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.training import Evaluator, Feed, Layout, means

from . import tiny

# Few enough steps that the residual is a number and not rounding.
evaluate = Evaluator(tiny.NETWORK, 3, replace(tiny.RELAXATION, free_steps=8), num_draws=2)
noisy = Evaluator(tiny.NETWORK, 3, replace(tiny.RELAXATION, free_steps=8, noise_std=0.1), num_draws=2)


@pytest.mark.parametrize(("evaluate", "batch_size"), [(evaluate, 4), (evaluate, 1000), (noisy, 4)])
def test_batches_that_do_not_divide_the_split_give_the_same_sums(evaluate, batch_size):
    feed = tiny.feed(10)
    whole = evaluate(tiny.params(), feed, 10)
    parts = evaluate(tiny.params(), feed, batch_size)
    assert parts["batches"] == -(-10 // batch_size)
    for name in set(whole) - {"batches", "passes", "homeostatic_loss"}:
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-4, err_msg=name)
    one, other = means(whole, nudged=False), means(parts, nudged=False)
    assert one["examples"] == other["examples"] == 10
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
    assert one["passes"] == other["passes"] == 4


def test_passes_are_a_mean_over_the_examples():
    """Of which some rest early, whatever batch they are in."""
    patient = Evaluator(tiny.NETWORK, 3, replace(tiny.RELAXATION, free_steps=80, tolerance=1e-5), num_draws=2)
    whole, parts = (patient(tiny.params(), tiny.feed(10), size) for size in (10, 4))
    passes = means(whole, nudged=False)["passes"]
    assert passes % 1
    assert means(parts, nudged=False)["passes"] == pytest.approx(passes)


def test_evaluation_repeats_itself_and_the_homeostatic_loss_is_that_of_the_first_batch():
    feed = tiny.feed(10)
    totals, again = (evaluate(tiny.params(), feed, 4) for _ in range(2))
    for name, value in totals.items():
        np.testing.assert_array_equal(value, again[name])
    first = evaluate(tiny.params(), tiny.feed(10, first=4), 4)
    assert totals["homeostatic_loss"] == first["homeostatic_loss"]
    assert np.isfinite(first["homeostatic_loss"])


def test_a_network_that_diverged_is_counted_and_never_right():
    feed = tiny.feed(10)
    params = tiny.params()
    params["out-l1"]["kernel"] = params["out-l1"]["kernel"].at[0, 0].set(jnp.nan)
    totals = evaluate(params, feed, 10)
    found = means(totals, nudged=False)
    assert found["nonfinite"] == 10
    assert found["top1"] == found["settled"] == 0
    assert found["loss"] is None


def test_runs_evaluated_together_are_each_what_they_are_alone():
    feed, runs = tiny.feed(10), [tiny.params(), jax.tree.map(lambda leaf: 1.5 * leaf, tiny.params())]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs)
    examples = np.asarray([[0, 1, 2, 3, 4, 5, 6], [9, 8, 7, 6, 5, 4, 3]])
    totals = evaluate(stacked, feed, 4, examples=examples)
    for place, (params, own) in enumerate(zip(runs, examples, strict=True)):
        alone = evaluate(params, feed, 4, examples=own)
        for name, value in alone.items():
            np.testing.assert_allclose(totals[name][place], value, rtol=1e-4, err_msg=name)


def test_an_evaluator_goes_with_its_last_user():
    """With it its programs: a session that opens many models would fill the memory."""
    own = Evaluator(tiny.NETWORK, 3, tiny.RELAXATION, num_draws=2)
    own(tiny.params(), tiny.feed(4), 4)
    gone = weakref.ref(own)
    del own
    gc.collect()
    assert gone() is None


def test_every_batch_has_noise_of_its_own():
    """Of eight equal examples the second four are not right or wrong as the first four are."""
    images, labels = (np.repeat(np.asarray(part)[:1], 8, axis=0) for part in tiny.split())
    losses = [
        float(noisy(tiny.params(), Feed(images[:n], labels[:n], Layout(), True), 4)["loss"]) for n in (4, 8)
    ]
    assert losses[1] != pytest.approx(2 * losses[0], rel=1e-5)
