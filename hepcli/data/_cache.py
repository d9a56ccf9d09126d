"""Memory-mapped copies of prepared splits: array_record decodes 57 µs an example, a map none.

The cache lies inside the prepared folder, so that removing the folder removes it too. Beside the arrays of a
split lie their digests, in a file that `sha256sum --check` understands; they are compared whenever the split
is opened, but for images so many that it would take seconds.
"""

import errno
import hashlib
import io
import itertools
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepcli.data import _folders
from hepcli.data._builder import make_builder
from hepcli.data._interrupted import clean_start
from hepcli.data._npz import HEADER_ERRORS
from hepcli.data._progress import report_blocks
from hepcli.data._spec import SPLIT_NAMES, Block, DatasetSpec, OnProgress, Split, SplitName, silent
from hepcli.errors import DatasetError
from hepcli.files import file_digest, replacing

_VERIFIED_BYTES = 1 << 30  # of images; a second or two. 0.1 s for CIFAR-10
_BLOCK_EXAMPLES = 4096  # bounds memory while copying: 12 MiB of 32 × 32 colour images


def ensure_cached(spec: DatasetSpec, data_dir: Path, report: OnProgress) -> None:
    """Write the cache of every split that has no sound one, where the folder can be written."""
    for split in SPLIT_NAMES:
        cached = _open_or_build(spec, data_dir, split, report)
        if not isinstance(cached, Split):
            report(cached)


def load_cached(spec: DatasetSpec, data_dir: Path, split: SplitName, report: OnProgress = silent) -> Split:
    """Open a prepared split through its cache, which is built anew when absent or damaged.

    Args:
        spec: the data set, which must be prepared in data_dir.
        data_dir: where data sets are kept.
        split: the split to open.
        report: receives progress where the cache must be built.

    Returns:
        The split, its images memory-mapped, or in memory where no cache can be written.

    Raises:
        DatasetError: the cache must be built and the prepared files are damaged.
    """
    cached = _open_or_build(spec, data_dir, split, report)
    if isinstance(cached, Split):
        return cached
    # A shared read-only folder or a full disk: slower, but the examples are the same.
    return _read_into_memory(spec, data_dir, split)._replace(notice=cached)


def _open_or_build(spec: DatasetSpec, data_dir: Path, split: SplitName, report: OnProgress) -> Split | str:
    """The split through its cache, or why it can have none."""
    folder = _folders.prepared_folder(spec, data_dir) / "cache"
    cached = open_arrays(spec, folder, split)
    reason = "is damaged"
    if cached is None:
        try:
            with clean_start(spec, data_dir, report):
                folder.mkdir(exist_ok=True)
                blocks = _prepared_blocks(spec, data_dir, split)
                what = f"Caching {spec.name} {split}"
                counted = report_blocks(blocks, what, spec.num_examples[split], report)
                write_arrays(spec, folder, split, counted)
        except OSError as error:
            reason = f"cannot be written ({error.strerror or error})"
        cached = open_arrays(spec, folder, split)
    if cached is not None:
        return cached
    return f"{folder} {reason}: the {split} split of {spec.name} is decoded again and kept in memory."


class _Paths(NamedTuple):
    """The files of a split."""

    images: Path
    labels: Path
    digests: Path


def _paths_in(folder: Path, split: SplitName) -> _Paths:
    return _Paths(folder / f"{split}-images.npy", folder / f"{split}-labels.npy", folder / f"{split}.sha256")


def open_arrays(spec: DatasetSpec, folder: Path, split: SplitName) -> Split | None:
    """Open a split that `write_arrays` wrote; None where it is absent or not what was written."""
    paths = _paths_in(folder, split)
    images = _open_array(paths.images, spec.images_shape(split), np.dtype(np.uint8))
    labels = _open_array(paths.labels, (spec.num_examples[split],), np.dtype(np.int32))
    if images is None or labels is None or not _is_verified(paths, images.nbytes):
        return None
    if labels.min() < 0 or labels.max() >= spec.num_classes:
        return None
    labels = np.array(labels)
    labels.flags.writeable = False
    return Split(images, labels, spec.num_classes)


def digests_of(folder: Path) -> str:
    """The SHA-256 of all splits that `write_arrays` wrote into a folder, as one.

    Raises:
        OSError: they cannot be read.
    """
    lines = b"".join(_paths_in(folder, split).digests.read_bytes() for split in SPLIT_NAMES)
    return hashlib.sha256(lines).hexdigest()


def _is_verified(paths: _Paths, image_bytes: int) -> bool:
    """Whether the arrays are what was written, as far as it takes no seconds to tell."""
    checked = [paths.labels, *([paths.images] if image_bytes <= _VERIFIED_BYTES else [])]
    try:
        lines = paths.digests.read_bytes().splitlines()
        return all(_digest_line(file_digest(path), path) in lines for path in checked)
    except OSError:
        return False


def _digest_line(digest: str, path: Path) -> bytes:
    return f"{digest}  {path.name}".encode()


def _open_array(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """Map an .npy file read-only; None if it is absent or not exactly this array."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # NumPy warns of headers of Python 2, and reads them
            array = np.lib.format.open_memmap(path, mode="r")
        size = path.stat().st_size
    except (OSError, *HEADER_ERRORS):
        return None
    sound = array.shape == shape and array.dtype == dtype and array.flags.c_contiguous
    return array if sound and size == array.offset + array.nbytes else None


def write_arrays(spec: DatasetSpec, folder: Path, split: SplitName, blocks: Iterator[Block]) -> None:
    """Write a split into a folder that exists, as arrays and their digests."""
    paths = _paths_in(folder, split)
    all_labels: list[NDArray[np.int32]] = []

    def image_blocks() -> Iterator[NDArray[np.uint8]]:
        for images, labels in blocks:
            all_labels.append(labels)
            yield images

    images = _write_array(paths.images, spec.images_shape(split), np.dtype(np.uint8), image_blocks())
    labels = _write_array(paths.labels, (spec.num_examples[split],), np.dtype(np.int32), iter(all_labels))
    lines = [_digest_line(images, paths.images), _digest_line(labels, paths.labels)]
    with replacing(paths.digests) as temporary:
        temporary.write_bytes(b"".join(line + b"\n" for line in lines))


def _write_array(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], blocks: Iterator[NDArray[Any]]
) -> str:
    """Write an .npy file a block at a time, put it in its place at once, and return its SHA-256."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    # Not through a map: writing to a map on a full disk kills the process.
    start = io.BytesIO()
    np.lib.format.write_array_header_1_0(start, header)
    digest = hashlib.sha256()
    parts = (np.ascontiguousarray(block, dtype).data.cast("B") for block in blocks)
    with replacing(path) as temporary, temporary.open("xb") as file:
        for part in itertools.chain([start.getbuffer()], parts):
            file.write(part)
            digest.update(part)
    return digest.hexdigest()


def _read_into_memory(spec: DatasetSpec, data_dir: Path, split: SplitName) -> Split:
    images = np.empty(spec.images_shape(split), np.uint8)
    labels = np.empty(spec.num_examples[split], np.int32)
    start = 0
    for block_images, block_labels in _prepared_blocks(spec, data_dir, split):
        stop = start + len(block_labels)
        images[start:stop], labels[start:stop] = block_images, block_labels
        start = stop
    images.flags.writeable = labels.flags.writeable = False
    return Split(images, labels, spec.num_classes)


def _prepared_blocks(spec: DatasetSpec, data_dir: Path, split: SplitName) -> Iterator[Block]:
    """Decode a split from the prepared array_record files, in order."""
    from google.protobuf.json_format import ParseError  # type: ignore[import-untyped]

    count = spec.num_examples[split]
    try:
        source = make_builder(spec, data_dir).as_data_source(split)
        if len(source) != count:
            what = f"the {split} split has {len(source)} examples, not {count}"
            raise _unreadable_error(spec, data_dir, what)
        for start in range(0, count, _BLOCK_EXAMPLES):
            examples = source.__getitems__(range(start, min(start + _BLOCK_EXAMPLES, count)))
            images = np.stack([example["image"] for example in examples])
            yield images, np.array([example["label"] for example in examples], np.int32)
    # What TFDS and array_record raise for damaged descriptions and records, found by damaging them.
    except (RuntimeError, ValueError, KeyError, AssertionError, ParseError) as error:
        raise _unreadable_error(spec, data_dir, str(error).partition("\n")[0]) from error


def _unreadable_error(spec: DatasetSpec, data_dir: Path, reason: str) -> DatasetError:
    """Damaged files are to be removed; files that the system only refuses to read are not."""
    folder = _folders.prepared_folder(spec, data_dir)
    if refused := _refusal(folder, reason):
        return DatasetError(
            f"The prepared files of {spec.name} in {folder} cannot be read: {refused}.",
            "Check their permissions and the disk, or choose another folder with --data-dir DIR.",
        )
    return DatasetError(
        f"The prepared files of {spec.name} in {folder} are damaged: {reason}.",
        f"Remove that folder, then run {_folders.prepare_command(spec, data_dir)} or "
        f"{_folders.import_command(spec, data_dir)}.",
    )


def _refusal(folder: Path, reason: str) -> str | None:
    """What the system refuses of the prepared files: array_record names it, or takes them for empty."""
    refused = re.search(r"\b(?:read|open)\(\) failed: ([^;]+)", reason)
    if refused and refused[1] != os.strerror(errno.ENOENT):  # a file that is gone is damage
        return refused[1]
    for file in sorted(folder.iterdir()):
        try:
            if file.is_file():
                with file.open("rb") as opened:
                    opened.read(1)
        except OSError as error:
            return f"{file.name}: {error.strerror}"
    return None
