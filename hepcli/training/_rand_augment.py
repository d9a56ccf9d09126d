"""RandAugment: a few random changes of shape or colour to every training image, on the device.

Source: Cubuk et al., "RandAugment", 2020 (arXiv:1909.13719); operations and magnitudes of torchvision, which
takes the operations from Pillow.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, UInt8

BINS = 30  # magnitudes are 0 … 30
_STEEPEST_SHEAR, _FURTHEST_SHIFT, _LARGEST_TURN = 0.3, 150 / 331, jnp.pi / 6
_STRONGEST_BLEND, _FEWEST_BITS_LESS = 0.9, 4

Image = UInt8[Array, "height width channels"]
Operation = Callable[[Image, int, Float[Array, ""]], Image]
"""(image, magnitude, sign) -> changed image; what has no direction ignores the sign."""


def rand_augment(key: Array, image: Image, num_ops: int, magnitude: int) -> Image:
    """Apply operations one after the other, each drawn from all, with its sign.

    Args:
        key: random key of this image.
        image: pixels of 0 … 255, one channel or three.
        num_ops: how many.
        magnitude: 0 … 30, of all of them.
    """
    branches = [partial(_of_magnitude, operation, magnitude) for operation in OPERATIONS.values()]
    for own in jax.random.split(key, num_ops):
        which, direction = jax.random.split(own)
        sign = jax.random.rademacher(direction, (), jnp.float32)
        image = jax.lax.switch(jax.random.randint(which, (), 0, len(branches)), branches, image, sign)
    return image


def _of_magnitude(operation: Operation, magnitude: int, image: Image, sign: Array) -> Image:
    return operation(image, magnitude, sign)


def identity(image: Image, magnitude: int, sign: Array) -> Image:
    """The image as it is."""
    return image


class Affine(NamedTuple):
    """Where the pixel at (x, y) comes from, in coordinates of pixel centres: a 2 × 2 matrix and a shift."""

    xx: float | Array = 1.0
    xy: float | Array = 0.0
    x: float | Array = 0.0
    yx: float | Array = 0.0
    yy: float | Array = 1.0
    y: float | Array = 0.0


def _warped(image: Image, source: Affine) -> Image:
    """The nearest pixel of each place's source; black where that lies outside."""
    height, width, _ = image.shape
    y, x = jnp.meshgrid(jnp.arange(height) + 0.5, jnp.arange(width) + 0.5, indexing="ij")
    column = jnp.floor(source.xx * x + source.xy * y + source.x).astype(jnp.int32)
    row = jnp.floor(source.yx * x + source.yy * y + source.y).astype(jnp.int32)
    is_inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    pixels = image[jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)]
    return jnp.where(is_inside[..., None], pixels, jnp.uint8(0))


def shear_x(image: Image, magnitude: int, sign: Array) -> Image:
    """Shift rows in proportion to their distance from the top."""
    return _warped(image, Affine(xy=sign * _STEEPEST_SHEAR * magnitude / BINS))


def shear_y(image: Image, magnitude: int, sign: Array) -> Image:
    """Shift columns in proportion to their distance from the left."""
    return _warped(image, Affine(yx=sign * _STEEPEST_SHEAR * magnitude / BINS))


def translate_x(image: Image, magnitude: int, sign: Array) -> Image:
    """Shift to the side by whole pixels."""
    return _warped(image, Affine(x=-sign * int(_FURTHEST_SHIFT * image.shape[1] * magnitude / BINS)))


def translate_y(image: Image, magnitude: int, sign: Array) -> Image:
    """Shift up or down by whole pixels."""
    return _warped(image, Affine(y=-sign * int(_FURTHEST_SHIFT * image.shape[0] * magnitude / BINS)))


def rotate(image: Image, magnitude: int, sign: Array) -> Image:
    """Turn about the centre, anticlockwise for a positive sign."""
    turn = sign * _LARGEST_TURN * magnitude / BINS
    cos, sin, (height, width, _) = jnp.cos(turn), jnp.sin(turn), image.shape
    shift_x = width / 2 - cos * width / 2 + sin * height / 2
    shift_y = height / 2 - sin * width / 2 - cos * height / 2
    return _warped(image, Affine(cos, -sin, shift_x, sin, cos, shift_y))


def _blended(plain: Array, image: Image, magnitude: int, sign: Array) -> Image:
    """From `plain` through the image and beyond, by 1 ± magnitude."""
    start = plain.astype(jnp.float32)
    factor = 1 + sign * _STRONGEST_BLEND * magnitude / BINS
    mixed = start + factor * (image.astype(jnp.float32) - start)
    return jnp.clip(mixed, 0, 255).astype(jnp.uint8)


def _grey(image: Image) -> Int[Array, "height width 1"]:
    """Luma of ITU-R 601, in 16 bits of fixed point."""
    if image.shape[-1] != 3:
        return image.astype(jnp.int32)
    luma = image.astype(jnp.int32) @ jnp.asarray([19595, 38470, 7471], jnp.int32)
    return (luma + 0x8000 >> 16)[..., None]


def brightness(image: Image, magnitude: int, sign: Array) -> Image:
    """Away from black or towards it."""
    return _blended(jnp.zeros_like(image), image, magnitude, sign)


def color(image: Image, magnitude: int, sign: Array) -> Image:
    """Away from grey or towards it; an image of one channel stays as it is."""
    return _blended(_grey(image), image, magnitude, sign)


def contrast(image: Image, magnitude: int, sign: Array) -> Image:
    """Away from the mean of its luma or towards it."""
    mean = jnp.floor(_grey(image).mean() + 0.5)
    return _blended(jnp.broadcast_to(mean, image.shape), image, magnitude, sign)


def sharpness(image: Image, magnitude: int, sign: Array) -> Image:
    """Away from the smoothed image or towards it; the outermost pixels stay."""
    height, width, _ = image.shape
    pixels = image.astype(jnp.float32)
    around = [pixels[row : row + height - 2, column : column + width - 2]
              for row in range(3) for column in range(3)]  # fmt: skip
    smooth = jnp.floor((sum(around) + 4 * pixels[1:-1, 1:-1]) / 13 + 0.5)
    return _blended(pixels.at[1:-1, 1:-1].set(smooth), image, magnitude, sign)


def posterize(image: Image, magnitude: int, sign: Array) -> Image:
    """Set the lowest bits to 0."""
    bits = round(_FEWEST_BITS_LESS * magnitude / BINS)
    return image >> bits << bits


def solarize(image: Image, magnitude: int, sign: Array) -> Image:
    """Invert what is bright."""
    return jnp.where(image >= 255 * (1 - magnitude / BINS), 255 - image, image)


def autocontrast(image: Image, magnitude: int, sign: Array) -> Image:
    """Stretch every channel to 0 … 255."""
    low, high = (bound.astype(jnp.float32) for bound in (image.min((0, 1)), image.max((0, 1))))
    scale = 255 / jnp.where(high > low, high - low, 255)
    stretched = jnp.clip(image * scale - low * scale, 0, 255).astype(jnp.uint8)
    return jnp.where(high > low, stretched, image)


def equalize(image: Image, magnitude: int, sign: Array) -> Image:
    """Make all values of every channel about equally frequent."""
    return jax.vmap(_equalized, -1, -1)(image)


def _equalized(channel: UInt8[Array, "height width"]) -> UInt8[Array, "height width"]:
    counts = jnp.zeros(256, jnp.int32).at[channel.reshape(-1)].add(1)
    step = (channel.size - counts[channel.max()]) // 255  # the brightest value does not count
    before = jnp.cumsum(counts) - counts
    table = jnp.minimum((before + step // 2) // jnp.maximum(step, 1), 255).astype(jnp.uint8)
    return jnp.where(step > 0, table[channel], channel)


OPERATIONS: dict[str, Operation] = {
    own.__name__: own
    for own in (
        identity, shear_x, shear_y, translate_x, translate_y, rotate, brightness, color, contrast, sharpness,
        posterize, solarize, autocontrast, equalize,
    )
}  # fmt: skip
