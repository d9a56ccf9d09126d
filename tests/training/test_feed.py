"""Batches on the device and streamed: the same examples, and the same learning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.settings import AUGMENTATIONS, DataSettings
from hepcli.training import (
    Evaluator,
    Feed,
    Layout,
    epoch_steps,
    normalizer,
)
from hepcli.training import _feed as feed_module

from . import tiny


def chosen(batch):
    return np.asarray(batch.images)[np.asarray(batch.rows)], np.asarray(batch.labels)[np.asarray(batch.rows)]


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 4)])
def test_the_examples_that_were_asked_for(resident, shape):
    images, labels = map(np.asarray, tiny.split(30))
    wanted = np.random.default_rng(0).integers(0, 30, shape)
    batches = list(tiny.feed(30, resident).batches(wanted))
    assert len(batches) == 3
    for own, batch in zip(wanted, batches, strict=True):
        np.testing.assert_array_equal(batch.indices, own)
        np.testing.assert_array_equal(chosen(batch)[0], images[own])
        np.testing.assert_array_equal(chosen(batch)[1], labels[own])
        assert batch.images.shape[0] == (30 if resident else own.size)


def test_a_streamed_epoch_learns_what_a_resident_one_does_bit_for_bit():
    """Augmentation included: it knows an example by its number in the split, not by its place in a batch."""
    augment = AUGMENTATIONS["flip_crop"](5, DataSettings("mine", crop_padding=1))
    step = tiny.make_step(tiny.learning(weight=0.5), augment=augment)
    order = np.random.default_rng(0).permutation(10)
    ends = []
    for resident in (True, False):
        for done in epoch_steps(step, tiny.start(), tiny.feed(10, resident), order, 2):
            state = done.state
        ends.append(jax.tree.map(np.asarray, state))
    jax.tree.map(np.testing.assert_array_equal, *ends)
    evaluate = Evaluator(tiny.NETWORK, 3, tiny.RELAXATION, num_draws=2)
    whole, streamed = (evaluate(tiny.params(), tiny.feed(10, r), 4) for r in (True, False))
    jax.tree.map(np.testing.assert_array_equal, whole, streamed)


def test_large_splits_are_streamed(monkeypatch):
    monkeypatch.setattr(feed_module, "RESIDENT_BYTES", 10 * 4)
    images, labels = map(np.asarray, tiny.split(11))
    assert Feed(images[:10], labels[:10], Layout()).resident
    assert not Feed(images, labels, Layout()).resident


def test_reading_stays_two_batches_ahead_and_ends_with_its_reader():
    read = []

    class Counting(np.ndarray):
        def __getitem__(self, rows):
            read.append(len(rows))
            return np.asarray(self)[rows]

    images, labels = map(np.asarray, tiny.split(30))
    feed = Feed(images.view(Counting), labels, Layout(), resident=False)
    batches = feed.batches(np.arange(30).reshape(10, 3))
    next(batches)
    batches.close()
    assert 1 <= len(read) <= 3


@pytest.mark.parametrize("kind", ["none", "flip_crop", "rand_augment"])
def test_an_augmented_image_depends_on_seed_epoch_and_index_alone(kind):
    augment = AUGMENTATIONS[kind](5, DataSettings("mine"))
    if kind == "none":
        assert augment is None
        return
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)), jnp.uint8)
    indices = jnp.asarray([4, 7, 1, 9, 0, 3])
    first = np.asarray(augment(images, indices, 1, jnp.int32(7)))
    turned = np.asarray(augment(images[::-1], indices[::-1], 1, jnp.int32(9)))  # same epoch, other batch
    np.testing.assert_array_equal(turned[::-1], first)
    for seed, step in ((1, 10), (2, 7)):
        assert np.any(np.asarray(augment(images, indices, seed, jnp.int32(step))) != first)


@pytest.mark.parametrize(("border", "mode"), [("black", "constant"), ("edge", "edge")])
def test_a_flipped_and_cropped_image_is_a_window_of_the_padded_one(border, mode):
    augment = AUGMENTATIONS["flip_crop"](1, DataSettings("mine", crop_border=border))
    image = np.random.default_rng(0).integers(1, 256, (8, 8, 3)).astype(np.uint8)
    many = np.asarray(augment(jnp.asarray(np.stack([image] * 400)), jnp.arange(400), 0, jnp.int32(0)))
    windows = {}
    for flip in (False, True):
        padded = np.pad(image[:, ::-1] if flip else image, [(2, 2), (2, 2), (0, 0)], mode)
        for row in range(5):
            for column in range(5):
                windows[padded[row : row + 8, column : column + 8].tobytes()] = flip, row, column
    seen = [windows[one.tobytes()] for one in many]
    assert len(set(seen)) == 50
    assert 150 < sum(flip for flip, _, _ in seen) < 250


def test_inputs_are_scaled_channel_by_channel_by_mean_and_wide_deviation():
    data = DataSettings("mine", mean=(0.5, 0.2), std=(0.25, 0.1), std_scale=2.0)
    pixels = jnp.asarray([[[[255, 255], [0, 51]]]], jnp.uint8)
    np.testing.assert_allclose(normalizer(data)(pixels)[0, 0], [[1, 4], [-1, 0]], atol=1e-6)
