"""Files inside an archive, read by name: nothing is ever extracted to where an archive says."""

import contextlib
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO

from hepcli.errors import DatasetError

OpenMember = Callable[[str], IO[bytes]]

FETCH_AGAIN = "Fetch this file again from its official source and repeat the command."
_GZIP_MAGIC = b"\x1f\x8b"
_ZIP_MAGIC = b"PK\x03\x04"
_CHUNK_BYTES = 1 << 20
# What the standard library raises for damaged archives, found by damaging them.
_FAULTS = (
    EOFError,
    RuntimeError,  # also its subclass NotImplementedError: an encrypted or unknown kind of zip
    ValueError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


@contextlib.contextmanager
def open_members(path: Path, folder: str) -> Iterator[OpenMember]:
    """Open an archive, or the folder it was unpacked into.

    Args:
        path: a tar archive, gzip-compressed or not, a zip archive (its content decides, not
            its name), or a folder.
        folder: the folder inside the archive that the files lie in; they may also lie outside
            any folder. Not used where path is a folder.

    Yields:
        A function that opens a file, given its name, for reading. It and the files are valid
        inside the `with` block, and reading errors there become DatasetErrors.

    Raises:
        DatasetError: the archive is damaged or unreadable, or lacks a file.
    """
    try:
        if path.is_dir():
            yield lambda name: (path / name).open("rb")
        else:
            with path.open("rb") as file:
                yield from _open_inside(path, folder, file)
    except _FAULTS as error:
        raise DatasetError(f"{path} is damaged or no such archive: {error}.", FETCH_AGAIN) from error
    except OSError as error:
        raise DatasetError(
            f"{error.filename or path} cannot be read: {error.strerror or error}.",
            "Check that it is a readable file.",
        ) from error


def _open_inside(path: Path, folder: str, file: IO[bytes]) -> Iterator[OpenMember]:
    magic = file.read(len(_ZIP_MAGIC))
    file.seek(0)
    if magic == _ZIP_MAGIC:
        with zipfile.ZipFile(file) as zipped:
            yield lambda name: zipped.open(_name_inside(path, folder, name, zipped.namelist()))
    else:
        content = _gunzipped(file) if magic.startswith(_GZIP_MAGIC) else file
        with tarfile.open(fileobj=content, mode="r:") as tarred:
            yield _tar_opener(path, folder, tarred)


def _gunzipped(file: IO[bytes]) -> gzip.GzipFile:
    content = gzip.GzipFile(fileobj=file)
    # tarfile stops before the end, where the checksum is: a first pass finds damage early.
    while content.read(_CHUNK_BYTES):
        pass
    content.seek(0)
    return content


def _tar_opener(path: Path, folder: str, archive: tarfile.TarFile) -> OpenMember:
    members = {member.name.removeprefix("./"): member for member in archive if member.isreg()}

    def open_member(name: str) -> IO[bytes]:
        file = archive.extractfile(members[_name_inside(path, folder, name, members)])
        if file is None:
            raise tarfile.ReadError(f"{name} is no file")
        return file

    return open_member


def _name_inside(path: Path, folder: str, name: str, names: Collection[str]) -> str:
    for candidate in (f"{folder}/{name}", name):
        if candidate in names:
            return candidate
    raise DatasetError(f"{path} lacks {folder}/{name}.", FETCH_AGAIN)
