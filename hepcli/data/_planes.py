"""Images stored as planes: all red pixels, then all green, then all blue, each row by row."""

import numpy as np
from numpy.typing import NDArray

BLOCK_EXAMPLES = 4096  # bounds memory while reading: 12 MiB of 32 × 32 colour images


def images_from_planes(rows: NDArray[np.uint8], image_shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Put the channels last.

    Args:
        rows: uint8 (examples, channels × height × width), the planes of one image a row.
        image_shape: (height, width, channels).

    Returns:
        uint8 (examples, height, width, channels).
    """
    height, width, channels = image_shape
    planes = rows.reshape(-1, channels, height, width)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
