"""RandAugment against Pillow, which torchvision's operations on images come from."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from hepcli.training._rand_augment import BINS, OPERATIONS, rand_augment

SIZE, MAGNITUDES, SIGNS = 32, (0, 9, 17, 30), (-1, 1)
ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "color": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "sharpness": ImageEnhance.Sharpness,
}
SHAPE = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")


def affine(picture, *matrix):
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)


def by_pillow(name, picture, magnitude, sign):
    """As torchvision calls it: `_apply_op` and `RandAugment._augmentation_space`."""
    level = magnitude / BINS
    shear, shift = sign * 0.3 * level, int(sign * 150 / 331 * SIZE * level)
    match name:
        case "identity":
            return picture
        case "shear_x":
            return affine(picture, 1, shear, 0, 0, 1, 0)
        case "shear_y":
            return affine(picture, 1, 0, 0, shear, 1, 0)
        case "translate_x":
            return affine(picture, 1, 0, -shift, 0, 1, 0)
        case "translate_y":
            return affine(picture, 1, 0, 0, 0, 1, -shift)
        case "rotate":
            return picture.rotate(sign * 30 * level, Image.Resampling.NEAREST)
        case "posterize":
            return ImageOps.posterize(picture, 8 - round(magnitude / (BINS / 4)))
        case "solarize":
            return ImageOps.solarize(picture, 255 * (1 - level))
        case "autocontrast":
            return ImageOps.autocontrast(picture)
        case "equalize":
            return ImageOps.equalize(picture)
        case _:
            return ENHANCERS[name](picture).enhance(1 + sign * 0.9 * level)


def images(channels):
    """Noise, a smooth image of few values, and one colour."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(40, 180, SIZE)[:, None, None] + np.linspace(0, 30, SIZE)[None, :, None]
    ramp = np.repeat(ramp, channels, -1) * np.linspace(0.6, 1.1, channels)
    noise = rng.integers(0, 256, (SIZE, SIZE, channels))
    return [own.astype(np.uint8) for own in (noise, ramp, np.full((SIZE, SIZE, channels), 87))]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_those_of_pillow(name, channels):
    """But for pixels on the edge of two, where fixed point decides."""
    operation = jax.jit(OPERATIONS[name], static_argnums=1)
    for image in images(channels):
        for magnitude in MAGNITUDES:
            for sign in SIGNS:
                ours = np.asarray(operation(jnp.asarray(image), magnitude, jnp.float32(sign))).astype(int)
                picture = Image.fromarray(image if channels == 3 else image[..., 0])
                theirs = (
                    np.asarray(by_pillow(name, picture, magnitude, sign)).reshape(image.shape).astype(int)
                )
                differs = (np.abs(ours - theirs) > (name not in SHAPE)).any(-1)
                assert differs.mean() <= (0.01 if name in SHAPE else 0), (magnitude, sign)


def test_every_operation_is_drawn_about_equally_often_in_both_directions():
    """Told by the nearest result: compiled otherwise, pixels on the edge of two may differ."""
    image, draws = jnp.asarray(images(3)[0]), 1000
    keys = jax.random.split(jax.random.key(0), draws)
    changed = np.asarray(jax.vmap(lambda key: rand_augment(key, image, 1, 12))(keys)).astype(np.int16)
    results = {}
    for name, operation in OPERATIONS.items():
        for sign in SIGNS:
            result = np.asarray(operation(image, 12, jnp.float32(sign)))
            results.setdefault(result.tobytes(), (result.astype(np.int16), []))[1].append(name)
    known, names = zip(*results.values(), strict=True)
    nearest = [np.argmin([np.abs(own - one).mean() for one in known]) for own in changed]
    assert {name for own in names if len(own) == 1 for name in own} == {*SHAPE, *ENHANCERS}
    for number, own in enumerate(names):
        expected = draws / len(OPERATIONS) / (2 if len(own) == 1 else 1)
        if len(set(own)) == 1:
            assert abs(nearest.count(number) - expected) < 5 * math.sqrt(expected), own


def test_operations_follow_one_another():
    """With three, more than any one of them makes."""
    image, keys = jnp.asarray(images(3)[1]), jax.random.split(jax.random.key(1), 300)

    def kinds(num_ops):
        changed = jax.vmap(lambda key: rand_augment(key, image, num_ops, 9))(keys)
        return len({own.tobytes() for own in np.asarray(changed)})

    assert kinds(1) <= 2 * len(OPERATIONS)
    assert kinds(3) > 150
