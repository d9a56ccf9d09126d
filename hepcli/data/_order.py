"""The order of examples: a pure function, so that a resumed run sees what it would have seen."""

import numpy as np
from numpy.typing import NDArray

_TAG = 0x6F72646572  # "order": keeps this stream apart from other uses of the same seed


def epoch_order(seed: int, epoch: int, num_examples: int) -> NDArray[np.int64]:
    """Return the order in which an epoch visits the examples.

    Args:
        seed: the run's seed, not negative.
        epoch: number of the epoch, not negative.
        num_examples: number of examples of the split.

    Returns:
        A permutation of 0 … num_examples − 1, int64, the same for the same arguments.
    """
    generator = np.random.default_rng(np.random.SeedSequence((_TAG, seed, epoch)))
    return generator.permutation(num_examples).astype(np.int64, copy=False)
