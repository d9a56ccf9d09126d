"""The examples that are held out of training for validation: stratified by class, fixed by the seed."""

import numpy as np
from numpy.typing import NDArray

from hepcli.errors import ConfigError

_TAG = 0x76616C6964  # "valid": keeps this stream apart from other uses of the same seed


def held_out(labels: NDArray[np.int32], count: int, seed: int) -> NDArray[np.int64]:
    """Choose the training examples that are kept for validation, each class by its share.

    Args:
        labels: of all training examples, shape (examples,).
        count: how many to hold out.
        seed: of the run.

    Returns:
        Their numbers, ascending, shape (count,); none for a count of 0.

    Raises:
        ConfigError: a class would be missing from validation, or from training.
    """
    if count == 0:
        return np.empty(0, np.int64)
    classes, sizes = np.unique(labels, return_counts=True)
    if count >= len(labels):
        raise ConfigError(
            f"data.validation_examples = {count}: there are only {len(labels)} training examples",
            f"Choose at most {len(labels) - len(classes)}.",
        )
    shares = _shares(sizes, count)
    for number, size, share in zip(classes, sizes, shares, strict=True):
        if share == 0 or share == size:
            lacks = "validation" if share == 0 else "training"
            advice = f"Choose {_least(sizes)} or more." if share == 0 else "Choose fewer."
            if size == 1:  # no number would do
                advice = "Leave it at 0: a class of one example cannot be divided."
            raise ConfigError(
                f"data.validation_examples = {count}: class {number}, of which there are {size} training "
                f"examples, would be missing from {lacks}",
                advice,
            )
    generator = np.random.default_rng(np.random.SeedSequence((_TAG, seed)))
    chosen = [
        generator.choice(np.flatnonzero(labels == number), share, replace=False)
        for number, share in zip(classes, shares, strict=True)
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int64, copy=False)


def _shares(sizes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Divide a count among classes in proportion to their sizes, by largest remainder."""
    exact = count * sizes / sizes.sum()
    shares = np.floor(exact).astype(np.int64)
    order = np.argsort(shares - exact, kind="stable")
    shares[order[: count - shares.sum()]] += 1
    return np.asarray(shares, np.int64)


def _least(sizes: NDArray[np.int64]) -> int:
    """The smallest count of which every class gets a share."""
    return next(count for count in range(len(sizes), sizes.sum()) if _shares(sizes, count).all())
