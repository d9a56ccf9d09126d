"""From stored pixels to inputs, on the device: augmentation and normalisation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, UInt8

from hepcli.settings import DataSettings
from hepcli.training._learner import Augment, Preprocess, scale_pixels
from hepcli.training._rand_augment import rand_augment

_TAG = 0x666C6970  # "flip": keeps this stream apart from other uses of the same seed


Augmentation = Callable[[int, DataSettings], Augment | None]
"""(steps per epoch, the [data] table) -> (images, indices, seed, step) -> images; None for nothing.

What happens to an example is a function of seed, epoch and index alone, whatever batch it is in.
"""

Change = Callable[[Array, UInt8[Array, "height width channels"]], UInt8[Array, "height width channels"]]


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


def no_augmentation(steps_per_epoch: int, data: DataSettings) -> None:
    """Images as they are stored."""


def flip_crop(steps_per_epoch: int, data: DataSettings) -> Augment:
    """Flip left to right with probability ½, pad, crop to the old size. Source: METHOD §6 (code)."""

    def change(key: Array, image: UInt8[Array, "height width channels"]) -> UInt8[Array, "..."]:
        flip_key, crop_key = jax.random.split(key)
        return _cropped(crop_key, _flipped(flip_key, image), data)

    return _by_example(change, steps_per_epoch)


def rand_augment_crop(steps_per_epoch: int, data: DataSettings) -> Augment:
    """As `flip_crop`, with RandAugment between flip and crop.

    Source: E P & Srinivasan 2025 (arXiv:2509.26003), code.
    """

    def change(key: Array, image: UInt8[Array, "height width channels"]) -> UInt8[Array, "..."]:
        flip_key, own_key, crop_key = jax.random.split(key, 3)
        image = rand_augment(
            own_key, _flipped(flip_key, image), data.rand_augment_ops, data.rand_augment_magnitude
        )
        return _cropped(crop_key, image, data)

    return _by_example(change, steps_per_epoch)


def _flipped(key: Array, image: UInt8[Array, "height width channels"]) -> UInt8[Array, "..."]:
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def _cropped(
    key: Array, image: UInt8[Array, "height width channels"], data: DataSettings
) -> UInt8[Array, "..."]:
    """A window of the padded image."""
    padding, mode = data.crop_padding, {"black": "constant", "edge": "edge"}[data.crop_border]
    padded = jnp.pad(image, [(padding, padding)] * 2 + [(0, 0)], mode)
    row, column = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    return jax.lax.dynamic_slice(padded, (row, column, 0), image.shape)


def _by_example(change: Change, steps_per_epoch: int) -> Augment:
    """The change of every image, with a key of its own in every epoch."""

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
