"""The IDX format of the MNIST family: a big-endian header, then unsigned bytes.

The header is a magic number (two zero bytes, 8 for unsigned bytes, the number of
dimensions) and one 32-bit length for each dimension. Files may be gzip-compressed or not.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hepcli.data._spec import Block, SplitName
from hepcli.errors import DatasetError

_UNSIGNED_BYTE = 8
_GZIP_MAGIC = b"\x1f\x8b"
_ADVICE = "Fetch this file again from its official source and repeat the command."


@dataclass(frozen=True)
class IdxPairs:
    """Reads a data set stored as one file of images and one of labels for each split.

    Attributes:
        filenames: (images, labels), the official file names of each split.
    """

    filenames: Mapping[SplitName, tuple[str, str]]

    def __call__(self, paths: Mapping[str, Path], split: SplitName) -> Iterator[Block]:
        """Yield the whole split as one block.

        Args:
            paths: where each file lies, by official name.
            split: the split to read.

        Yields:
            images uint8 (examples, height, width, 1) and labels int32 (examples,).

        Raises:
            DatasetError: a file is damaged, or images and labels differ in number.
        """
        images_path, labels_path = (paths[name] for name in self.filenames[split])
        images = read_idx(images_path, num_dimensions=3)
        labels = read_idx(labels_path, num_dimensions=1)
        if len(images) != len(labels):
            raise DatasetError(
                f"{images_path} holds {len(images)} images, but {labels_path} holds {len(labels)} labels.",
                "Both must come from the same release of the data set; fetch them again.",
            )
        yield images[..., np.newaxis], labels.astype(np.int32)


def read_idx(path: Path, num_dimensions: int) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes.

    Args:
        path: the file, gzip-compressed or not (its content decides, not its name).
        num_dimensions: 3 for images, 1 for labels.

    Returns:
        The array with the header's shape, read-only.

    Raises:
        DatasetError: the file cannot be read, is of another kind, or its length is not
            what its header says.
    """
    content = _decompressed(path)
    header_length = 4 + 4 * num_dimensions
    if len(content) < header_length:
        raise DatasetError(f"{path} is truncated: {len(content)} bytes are no IDX header.", _ADVICE)
    magic, *shape = struct.unpack(f">{1 + num_dimensions}I", content[:header_length])
    expected_magic = _UNSIGNED_BYTE << 8 | num_dimensions
    if magic != expected_magic:
        raise DatasetError(
            f"{path} is no IDX file of {num_dimensions}-dimensional bytes: its magic number is "
            f"0x{magic:08x}, not 0x{expected_magic:08x}.",
            _ADVICE,
        )
    expected_length = header_length + math.prod(shape)
    if len(content) != expected_length:
        fault = "truncated" if len(content) < expected_length else "too long"
        raise DatasetError(
            f"{path} is {fault}: {len(content)} bytes, but its header announces {expected_length}.", _ADVICE
        )
    return np.frombuffer(content, np.uint8, offset=header_length).reshape(shape)


def _decompressed(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(_GZIP_MAGIC) else content
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DatasetError(f"{path} is a damaged gzip file: {error}.", _ADVICE) from error
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read: {error.strerror or error}.", "Check that it is a readable file."
        ) from error
