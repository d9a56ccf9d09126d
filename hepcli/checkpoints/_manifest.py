"""What a step says of itself, and whether every byte of it is as it was saved."""

import errno
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hepcli.errors import CheckpointError
from hepcli.files import file_digest, sync

FORMAT = 1
MANIFEST = "manifest.json"
_CHECKSUM = "manifest.sha256"
SAVING = ".saving-"
DELETING = ".deleting-"
REPLACED = ".replaced-"


class DamagedError(Exception):
    """A step folder whose content is not what was saved."""


class UnreadableError(DamagedError):
    """A step that the system refuses to read, for now: nobody knows that it is damaged."""


def unread(name: str, error: OSError) -> DamagedError:
    """What the system's error means for a step: gone is damaged, refused is unreadable."""
    gone = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
    gone = gone or error.errno == errno.ESTALE  # how NFS says that somebody has deleted it
    return (DamagedError if gone else UnreadableError)(f"{name} cannot be read ({error.strerror})")


def _manifest_checksum(text: bytes) -> bytes:
    """What `manifest.sha256` must hold; `sha256sum --check` understands it."""
    return f"{hashlib.sha256(text).hexdigest()}  {MANIFEST}\n".encode()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a manifest that is itself intact; the files it lists are not looked at."""
    try:
        text, checksum = (folder / MANIFEST).read_bytes(), (folder / _CHECKSUM).read_bytes()
    except OSError as error:
        raise unread("its manifest", error) from error
    if checksum != _manifest_checksum(text):
        raise DamagedError(f"{MANIFEST} and {_CHECKSUM} disagree")
    manifest: dict[str, Any] = json.loads(text)
    if manifest["format"] != FORMAT:
        raise CheckpointError(f"{folder} has an unknown format.", "It needs a newer version of hepcli.")
    return manifest


def is_complete(folder: Path, step: int | None = None) -> bool:
    """Whether all files are there with their sizes, and are of that step."""
    try:
        manifest = read_manifest(folder)
        files, own = manifest["files"], manifest["step"]
        return step in (None, own) and all(
            (folder / name).stat().st_size == file["bytes"] for name, file in files.items()
        )
    except (DamagedError, OSError):
        return False


def is_refused(folder: Path) -> bool:
    """Whether the system refuses to read it, so that nobody knows what it holds."""
    try:
        read_manifest(folder)
    except UnreadableError:
        return True
    except (DamagedError, CheckpointError):
        pass  # known to be damaged, or of a newer version
    return False


def verified_manifest(folder: Path) -> dict[str, Any]:
    """Read a manifest after checking every byte of the step against it."""
    manifest = read_manifest(folder)
    if str(manifest["step"]) != folder.name.removeprefix(SAVING).removeprefix(REPLACED):
        raise DamagedError(f"its manifest is for step {manifest['step']}")
    for name, file in manifest["files"].items():
        try:
            digest = file_digest(folder / name)
        except OSError as error:
            raise unread(name, error) from error
        if digest != file["sha256"]:
            raise DamagedError(f"the content of {name} has changed since it was saved")
    return manifest


def write_manifest(staging: Path, manifest: Mapping[str, Any]) -> None:
    """Write manifest and checksum, and bring everything in the folder to the disk."""
    text = json.dumps(manifest, indent=1).encode()
    (staging / MANIFEST).write_bytes(text)
    (staging / _CHECKSUM).write_bytes(_manifest_checksum(text))
    for entry in (staging, *staging.rglob("*")):
        sync(entry)


def file_digests(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in files
    }
