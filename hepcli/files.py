"""Files that are on the disk whole or not at all, whoever else writes, and whenever the process is killed."""

import errno
import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TEMPORARY = re.compile(r"\..+\.[0-9]+-[0-9a-f]{8}\.tmp")
_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_NO_HARD_LINKS = _UNSUPPORTED | {errno.EPERM, errno.EACCES, errno.EMLINK, errno.EXDEV}


def temporary_path(path: Path) -> Path:
    """A name beside a file, for this one write alone, until `os.replace` puts it in its place."""
    # Not tempfile: its files are readable by their owner only, and folders are shared. The random part
    # tells apart processes of the same number in two containers.
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def clear_temporaries(folder: Path) -> None:
    """Remove what killed writers left in a folder that nobody else writes into now."""
    for leftover in folder.glob(".*.tmp"):
        if _TEMPORARY.fullmatch(leftover.name) and leftover.is_file():
            leftover.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Replace a file as a whole, so that a reader or a crash never meets half of it.

    Args:
        path: the file.

    Yields:
        Where to write it; an error leaves nothing there.
    """
    temporary = temporary_path(path)
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def write_once(path: Path, text: str) -> bool:
    """Write a file that is not there yet; of several processes at once the first one's stays.

    Returns:
        True if this call created the file.
    """
    draft = temporary_path(path)
    try:
        draft.write_text(text, encoding="utf-8")
        sync(draft)
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            return _place_once(draft, path, text)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)
    return True


def _place_once(draft: Path, path: Path, text: str) -> bool:
    """`write_once` without hard links: whoever holds the folder's lock puts its file in place whole."""
    with held(path.parent) as alone:
        if not alone:  # no locks either: only here may a reader meet half of it
            return create(path, text)
        if path.exists():
            return False
        os.replace(draft, path)
        sync(path.parent)
        return True


def lock(handle: int, *, shared: bool = False, wait: bool = True) -> bool:
    """Lock what a descriptor opened, until it is closed or the process dies.

    Args:
        handle: the descriptor.
        shared: allow others that lock it as shared, too.
        wait: for others; else it is not locked while they hold it.

    Returns:
        Whether it is locked; not where its file system knows no locks either.
    """
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


@contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Hold a folder against others that do so, and wait for them first; death lets go of it.

    Yields:
        Whether it is held; not where its file system knows no locks.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield lock(handle)
    finally:
        os.close(handle)


def check_writable(folder: Path) -> None:
    """Make a folder and try to write into it, before work that would be lost; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = temporary_path(folder / "probe")
    probe.touch()
    probe.unlink()


def write_failure(path: Path, error: OSError) -> str:
    """Why a folder or file could not be written, in words."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        for place in (path, *path.parents):
            if place.exists() and not place.is_dir():
                return f"{place} is a file, not a folder"
    return error.strerror or str(error)


def create(path: Path, text: str) -> bool:
    """Make a file that is not there yet, in place; a reader may meet it while it is being written.

    Returns:
        True if this call created the file; an error leaves nothing there.
    """
    try:
        file = path.open("x", encoding="utf-8")
    except FileExistsError:
        return False
    try:
        with file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise
    sync(path.parent)
    return True


def legible(name: str) -> str:
    """A name as text that every file and terminal takes: bytes in it that are no UTF-8 are spelled out."""
    return name.encode("utf-8", "backslashreplace").decode()


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file or folder: a disk may report that it is full no earlier than here.

    Some file systems cannot flush a folder; there a crash of the whole machine may undo what was last done.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED or not path.is_dir():
            raise
    finally:
        os.close(descriptor)
