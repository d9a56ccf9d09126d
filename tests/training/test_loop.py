"""The step and the loop around it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.errors import DivergenceError
from hepcli.training import (
    StepDone,
    check_finite,
    epoch_steps,
    means,
    scale_pixels,
)

from . import tiny


class Recorder:
    """Stands in for a step: notes the examples it was given and returns the losses it was told to."""

    def __init__(self, losses=()):
        self.losses = dict(losses)
        self.batches = []

    def __call__(self, state, images, labels, rows, indices):
        self.batches.append(np.asarray(indices).tolist())
        step = int(state.step) + 1
        return state._replace(step=jnp.int32(step)), jnp.float32(self.losses.get(step, 1.0))


def run(step, state, order, batch_size, **kwargs) -> list[StepDone]:
    return list(epoch_steps(step, state, tiny.feed(10), np.asarray(order), batch_size, **kwargs))


def test_an_epoch_visits_every_example_once_in_order():
    order = np.random.default_rng(0).permutation(10)
    step = Recorder()
    done = run(step, tiny.start(), order, 5)
    assert np.concatenate(step.batches).tolist() == order.tolist()
    assert [record.batch for record in done] == [1, 2]
    assert int(done[-1].state.step) == 2


def test_only_the_last_incomplete_batch_waits_for_the_next_epoch():
    order = np.random.default_rng(0).permutation(10)
    step = Recorder()
    run(step, tiny.start(), order, 4)
    assert np.concatenate(step.batches).tolist() == order[:8].tolist()


def test_a_resumed_epoch_runs_the_batches_that_were_left():
    order = np.random.default_rng(0).permutation(10)
    step = Recorder()
    done = run(step, tiny.start()._replace(step=jnp.int32(13)), order, 2, first_batch=3)
    assert step.batches == order[6:].reshape(2, 2).tolist()
    assert [record.batch for record in done] == [4, 5]


def test_a_finished_epoch_has_no_steps_left():
    step = Recorder()
    assert run(step, tiny.start(), np.arange(10), 5, first_batch=2) == []
    assert step.batches == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("first_step", "first_batch"), [(0, 0), (20, 0), (22, 2)])
def test_the_step_that_diverged_is_named_after_one_more_was_dispatched(bad, first_step, first_batch):
    diverging = first_step + 2
    step = Recorder({diverging: bad})
    state = tiny.start()._replace(step=jnp.int32(first_step))
    with pytest.raises(DivergenceError, match=rf"The loss of step {diverging} is -?(nan|inf): "):
        run(step, state, np.arange(10), 2, first_batch=first_batch)
    assert len(step.batches) == 3


def test_the_last_loss_of_an_epoch_is_read():
    with pytest.raises(DivergenceError, match="step 5 "):
        run(Recorder({5: np.nan}), tiny.start(), np.arange(10), 2)


def test_the_message_says_what_to_do():
    with pytest.raises(DivergenceError) as caught:
        check_finite(7, jnp.float32(np.nan))
    assert caught.value.what == "The loss of step 7 is nan: training has diverged."
    assert "optimizer.learning_rate" in caught.value.advice
    check_finite(7, jnp.float32(1e30))


def test_a_real_step_with_a_broken_parameter_diverges_at_once():
    step = tiny.make_step(tiny.learning("hep_exact"))
    state = tiny.start()
    state.params["in-l1"]["bias"] = jnp.full(5, jnp.nan)
    with pytest.raises(DivergenceError, match="step 1 "):
        run(step, state, np.arange(10), 5)


def test_training_lowers_the_loss_in_one_trace():
    traces = []

    def preprocess(images):
        traces.append(images.shape)
        return scale_pixels(images)

    step = tiny.make_step(tiny.learning(), preprocess=preprocess)
    state, batch, losses = tiny.start(), tiny.batch(10), []
    for _ in range(30):
        state, loss = step(state, *batch)
        losses.append(float(loss))
    assert losses[-1] < losses[0] - 0.05
    assert traces == [(10, 2, 2, 1)]
    assert int(state.step) == 30
    found = means(state.totals, nudged=True)
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert found["examples"] == 300
    assert found["settled"] == 1
    assert 0.5 < found["nudged_settled"] <= 1


def test_randomness_is_a_function_of_seed_and_step_alone():
    """A run continued from a copy of its second step repeats the third, noise of homeostasis included."""

    def learner(seed):
        return tiny.make_step(tiny.learning("hep_exact", weight=1.0), seed=seed)

    def noise_of(step, number):
        """The homeostatic loss, from the same parameters, as of step `number`."""
        state, _ = step(tiny.start()._replace(step=jnp.int32(number)), *tiny.batch(5))
        return float(state.totals["homeostatic_loss"])

    step, other = learner(1), learner(2)
    state = tiny.start()
    for _ in range(2):
        state, _ = step(state, *tiny.batch(5))
    kept = jax.tree.map(jnp.copy, state)
    third, _ = step(state, *tiny.batch(5))
    resumed, _ = step(kept, *tiny.batch(5))
    jax.tree.map(np.testing.assert_array_equal, third, resumed)
    fourth = noise_of(step, 4)
    assert fourth == noise_of(step, 4)
    assert len({fourth, noise_of(step, 5), noise_of(other, 4)}) == 3


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_homeostasis_weighs_into_the_step(weight):
    """Its loss is on record only where it is part of the learning."""
    step = tiny.make_step(tiny.learning("hep_exact", weight=weight))
    state, _ = step(tiny.start(), *tiny.batch(10))
    assert (float(state.totals["homeostatic_loss"]) > 0) == (weight > 0)


def test_homeostasis_is_a_mean_over_all_examples_also_where_none_teaches():
    settings, losses = tiny.learning("hep_exact", weight=0.5), []
    for unsettled in ("learn", "skip"):
        relaxation = replace(settings.relaxation, unsettled=unsettled, converged_residual=-1.0)
        step = tiny.make_step(settings._replace(relaxation=relaxation))
        state, _ = step(tiny.start(), *tiny.batch(10))
        losses.append(float(state.totals["homeostatic_loss"]))
    assert losses[1] == pytest.approx(losses[0])


@pytest.mark.parametrize("method", ["hep", "bptt"])
def test_a_batch_in_parts_teaches_what_it_teaches_as_a_whole(method):
    """Gradient, homeostasis with its draws, noise and records; only memory differs."""

    def after_two_steps(parts):
        settings = tiny.learning(method, weight=1.0)._replace(accumulate=parts)
        noisy = settings._replace(relaxation=replace(settings.relaxation, noise_std=0.01, tolerance=0.0))
        sizes = set()

        def preprocess(images):
            sizes.add(len(images))
            return scale_pixels(images)

        step = tiny.make_step(noisy, preprocess=preprocess)
        state, _ = step(tiny.start(), *tiny.batch(10))
        assert sizes == {10 // parts}
        return step(state, *tiny.batch(10))

    whole = after_two_steps(1)
    for ours, theirs in zip(leaves(after_two_steps(5)), leaves(whole), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6)


def leaves(tree):
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]


def test_pixels_are_divided_by_255():
    pixels = jnp.asarray([[[[0], [51], [255]]]], jnp.uint8)
    scaled = scale_pixels(pixels)
    assert scaled.dtype == jnp.float32
    np.testing.assert_allclose(np.ravel(scaled), [0.0, 0.2, 1.0], rtol=1e-6)
