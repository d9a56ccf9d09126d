"""From stored pixels to inputs, on the device: augmentation and normalisation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, UInt8

from hepcli.settings import DataSettings
from hepcli.training._step import Augment, Preprocess, scale_pixels

_TAG = 0x666C6970  # "flip": keeps this stream apart from other uses of the same seed


Augmentation = Callable[[int, int], Augment | None]
"""Steps per epoch and padding -> what is done to training images at random; None for nothing."""


def normalizer(data: DataSettings) -> Preprocess:
    """From uint8 images to float32 inputs: (pixels/255 − mean)/(std_scale · std), per channel.

    Source: METHOD §6.
    """
    if (data.mean, data.std, data.std_scale) == ((0.0,), (1.0,), 1.0):
        return scale_pixels
    mean, std = jnp.asarray(data.mean), data.std_scale * jnp.asarray(data.std)

    def normalize(images: UInt8[Array, "batch height width channels"]) -> Float[Array, "..."]:
        return (scale_pixels(images) - mean.astype(jnp.float32)) / std.astype(jnp.float32)

    return normalize


def no_augmentation(steps_per_epoch: int, padding: int) -> None:
    """Images as they are stored."""


def flip_crop(steps_per_epoch: int, padding: int) -> Augment:
    """Flip left to right with probability ½, pad with black, crop to the old size.

    Args:
        steps_per_epoch: tells the epoch from the step.
        padding: rows and columns on each side.

    Returns:
        (images, indices, seed, step) -> images. Flip and crop of an example are a function of seed, epoch
        and index alone, whatever batch it is in.

    Source: METHOD §6 (code).
    """

    def change(key: Array, image: UInt8[Array, "height width channels"]) -> UInt8[Array, "..."]:
        flip_key, crop_key = jax.random.split(key)
        image = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
        padded = jnp.pad(image, [(padding, padding)] * 2 + [(0, 0)])
        row, column = jax.random.randint(crop_key, (2,), 0, 2 * padding + 1)
        return jax.lax.dynamic_slice(padded, (row, column, 0), image.shape)

    def augment(
        images: UInt8[Array, "batch height width channels"],
        indices: Int[Array, " batch"],
        seed: int | Array,
        step: Int[Array, ""],
    ) -> UInt8[Array, "batch height width channels"]:
        stream = jax.random.fold_in(jax.random.key(seed), _TAG)
        epoch_key = jax.random.fold_in(stream, step // steps_per_epoch)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(epoch_key, indices)
        changed: Array = jax.vmap(change)(keys, images)
        return changed

    return augment
