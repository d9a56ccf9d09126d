"""Files inside an archive, read by name: nothing is ever extracted to where an archive says."""

import contextlib
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, NamedTuple

from hepcli.errors import DatasetError

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


class Member(NamedTuple):
    """A file of an archive, open for reading, and what messages call it."""

    file: IO[bytes]
    source: str


OpenMember = Callable[[str], AbstractContextManager[Member]]


@contextlib.contextmanager
def open_members(path: Path, folder: str) -> Iterator[OpenMember]:
    """Open an archive, or the folder it was unpacked into.

    Args:
        path: a tar archive, gzip-compressed or not, a zip archive (its content decides, not
            its name), or a folder.
        folder: the folder inside the archive that the files lie in; they may also lie outside
            any folder. Not used where path is a folder.

    Yields:
        A function that opens a file by name, valid inside the `with` block; the file is to be
        used in a `with` block too. Reading errors in these blocks become DatasetErrors.

    Raises:
        DatasetError: the archive is damaged or unreadable, or lacks a file.
    """
    if path.is_dir():
        yield lambda name: _reading(lambda: (path / name).open("rb"), str(path / name))
    else:
        with _errors_named(str(path)), path.open("rb") as file, _opener(path, folder, file) as opener:
            yield lambda name: _reading(lambda: opener(name), f"{path}: {name}")


@contextlib.contextmanager
def _reading(opener: Callable[[], IO[bytes]], source: str) -> Iterator[Member]:
    with _errors_named(source), opener() as file:
        yield Member(file, source)


@contextlib.contextmanager
def _errors_named(source: str) -> Iterator[None]:
    try:
        yield
    except _FAULTS as error:
        raise DatasetError(f"{source} is damaged or has the wrong format: {error}.", FETCH_AGAIN) from error
    except OSError as error:
        raise DatasetError(
            f"{source} cannot be read: {error.strerror or error}.", "Check that it is a readable file."
        ) from error


@contextlib.contextmanager
def _opener(path: Path, folder: str, file: IO[bytes]) -> Iterator[Callable[[str], IO[bytes]]]:
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


def _tar_opener(path: Path, folder: str, archive: tarfile.TarFile) -> Callable[[str], IO[bytes]]:
    members = {member.name.removeprefix("./"): member for member in archive if member.isreg()}

    def open_member(name: str) -> IO[bytes]:
        file = archive.extractfile(members[_name_inside(path, folder, name, members)])
        if file is None:
            raise tarfile.ReadError(f"{name} is not a file")
        return file

    return open_member


def _name_inside(path: Path, folder: str, name: str, names: Collection[str]) -> str:
    for candidate in (f"{folder}/{name}", name):
        if candidate in names:
            return candidate
    raise DatasetError(f"{path} lacks {folder}/{name}.", FETCH_AGAIN)
