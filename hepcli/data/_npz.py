"""Arrays of an .npz file, read a block at a time: numpy.load holds each array in memory whole."""

import contextlib
import lzma
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hepcli.data._members import FETCH_AGAIN
from hepcli.errors import DatasetError

_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
HEADER_ERRORS = (ValueError, SyntaxError, tokenize.TokenError, TypeError, OverflowError, RecursionError)
"""What NumPy raises for damaged headers, found by damaging them."""
ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError)
"""What zipfile raises for damaged members, found by damaging them."""


class ArrayStream:
    """One array of an .npz file, read along its first axis.

    Attributes:
        shape: of the whole array.
        dtype: of its elements.
    """

    def __init__(self, file: IO[bytes], source: str) -> None:
        self._file = file
        self._source = source
        self.shape, self.dtype = _read_header(file, source)

    def blocks(self, num_rows: int) -> Iterator[NDArray[Any]]:
        """Yield the array in order, num_rows rows at a time, the last block maybe shorter.

        Raises:
            DatasetError: the array ends before its shape says, or after.
        """
        row_bytes = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        for start in range(0, self.shape[0], num_rows):
            count = min(num_rows, self.shape[0] - start)
            content = self._file.read(count * row_bytes)
            if len(content) != count * row_bytes:
                raise DatasetError(f"{self._source} is truncated.", FETCH_AGAIN)
            yield np.frombuffer(content, self.dtype).reshape(count, *self.shape[1:])
        if self._file.read(1):  # zipfile compares the checksum only when it meets the end
            raise DatasetError(f"{self._source} is longer than its header says.", FETCH_AGAIN)


@contextlib.contextmanager
def open_array(npz: zipfile.ZipFile, name: str, source: str) -> Iterator[ArrayStream]:
    """Open one array of an .npz file.

    Args:
        npz: the opened file.
        name: the array's name.
        source: what messages call the file.

    Yields:
        The array, valid inside the `with` block.

    Raises:
        DatasetError: there is no such array, or it is not stored row by row.
    """
    if f"{name}.npy" not in npz.namelist():
        raise DatasetError(f"{source} contains no array `{name}`.", FETCH_AGAIN)
    with npz.open(f"{name}.npy") as file:
        yield ArrayStream(file, f"{source}: {name}")


def _read_header(file: IO[bytes], source: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(file)
        if version not in _HEADER_READERS:
            raise ValueError(f"version {version[0]}.{version[1]} is not known")
        with warnings.catch_warnings():
            # NumPy warns of headers written by Python 2, and reads them.
            warnings.simplefilter("ignore", UserWarning)
            shape, fortran_order, dtype = _HEADER_READERS[version](file)
    except HEADER_ERRORS as error:
        raise DatasetError(f"{source} has a damaged header: {error}.", FETCH_AGAIN) from error
    if fortran_order or not shape or dtype.hasobject:
        raise DatasetError(f"{source} is not a numeric array in C (row-major) order.", FETCH_AGAIN)
    return shape, dtype
