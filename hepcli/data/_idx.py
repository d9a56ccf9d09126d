"""The IDX format of the MNIST family: a big-endian header, then unsigned bytes.

The header is a magic number (two zero bytes, 8 for unsigned bytes, the number of
dimensions) and one 32-bit length for each dimension. Files may be gzip-compressed or not.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from hepcli.data._spec import Block, SplitName
from hepcli.errors import DatasetError

_UNSIGNED_BYTE = 8
_GZIP_MAGIC = b"\x1f\x8b"
_MOST_BYTES = 2**30  # more than any data set of this format holds
_ADVICE = "Fetch this file again from its official source and repeat the command."


@dataclass(frozen=True)
class IdxPairs:
    """Reads a data set stored as one file of images and one of labels for each split.

    Attributes:
        filenames: (images, labels), the official file names of each split.
        other_set: labels of a split -> the data set of the same file names that they are of, if that is
            another one; None for no check.
    """

    filenames: Mapping[SplitName, tuple[str, str]]
    other_set: Callable[[NDArray[np.uint8]], str | None] | None = None

    def __call__(self, paths: Mapping[str, Path], split: SplitName) -> Iterator[Block]:
        """Yield the whole split as one block.

        Args:
            paths: where each file lies, by official name.
            split: the split to read.

        Yields:
            images uint8 (examples, height, width, 1) and labels int32 (examples,).

        Raises:
            DatasetError: a file is damaged or of another data set, or images and labels differ in number.
        """
        images_path, labels_path = (paths[name] for name in self.filenames[split])
        images = read_idx(images_path, num_dimensions=3)
        labels = read_idx(labels_path, num_dimensions=1)
        if len(images) != len(labels):
            raise DatasetError(
                f"{images_path} holds {len(images)} images, but {labels_path} holds {len(labels)} labels.",
                "Both must come from the same release of the data set; fetch them again.",
            )
        if self.other_set is not None and (other := self.other_set(labels)) is not None:
            raise DatasetError(
                f"{labels_path} holds the labels of another data set: {other}.",
                "Data sets of this family share their file names; give the folder of the right one.",
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
    header_length = 4 + 4 * num_dimensions
    with _opened(path) as file:
        header = _read(path, file, header_length)
        if len(header) < header_length:
            raise DatasetError(
                f"{path} is truncated: {len(header)} bytes are too few for an IDX header.", _ADVICE
            )
        magic, *shape = struct.unpack(f">{1 + num_dimensions}I", header)
        expected_magic = _UNSIGNED_BYTE << 8 | num_dimensions
        if magic != expected_magic:
            raise DatasetError(
                f"{path} is not an IDX file of {num_dimensions}-dimensional bytes: its magic number is "
                f"0x{magic:08x}, not 0x{expected_magic:08x}.",
                _ADVICE,
            )
        # What is packed may be far larger than what is announced: no more is read than tells so.
        length = math.prod(shape)
        content = _read(path, file, length + 1) if length <= _MOST_BYTES else b""
    if len(content) != length:
        fault = f"truncated: {header_length + len(content)} bytes" if len(content) < length else "too long"
        announced = header_length + length
        raise DatasetError(f"{path} is {fault}, but its header announces {announced}.", _ADVICE)
    return np.frombuffer(content, np.uint8).reshape(shape)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The file, unpacked as it is read where it is packed."""
    try:
        with path.open("rb") as raw:
            is_packed = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
            raw.seek(0)
            with gzip.open(raw) if is_packed else nullcontext(raw) as file:
                yield file  # type: ignore[misc]
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read: {error.strerror or error}.", "Check that it is a readable file."
        ) from error


def _read(path: Path, file: IO[bytes], length: int) -> bytes:
    try:
        return file.read(length)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DatasetError(f"{path} is a damaged gzip file: {error}.", _ADVICE) from error
