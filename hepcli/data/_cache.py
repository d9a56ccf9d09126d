"""Memory-mapped copies of prepared splits: array_record decodes 57 µs an example, a map none.

The cache lies inside the prepared folder, so that removing the folder removes it too.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepcli.data import _folders
from hepcli.data._builder import make_builder
from hepcli.data._interrupted import clean_start
from hepcli.data._progress import report_blocks
from hepcli.data._spec import SPLIT_NAMES, Block, DatasetSpec, OnProgress, Split, SplitName, silent
from hepcli.errors import DatasetError
from hepcli.files import replacing

_BLOCK_EXAMPLES = 4096  # bounds memory while copying: 12 MiB of 32 × 32 colour images


def ensure_cached(spec: DatasetSpec, data_dir: Path, report: OnProgress) -> None:
    """Write the cache of every split that has no sound one, where the folder can be written."""
    for split in SPLIT_NAMES:
        _open_or_build(spec, data_dir, split, report)


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
    # A shared read-only folder or a full disk: slower, but the examples are the same.
    return cached if cached is not None else _read_into_memory(spec, data_dir, split)


def _open_or_build(spec: DatasetSpec, data_dir: Path, split: SplitName, report: OnProgress) -> Split | None:
    cached = _open_cache(spec, data_dir, split)
    if cached is None:
        with contextlib.suppress(OSError), clean_start(spec, data_dir, report):
            _build_cache(spec, data_dir, split, report)
        cached = _open_cache(spec, data_dir, split)
    return cached


def _cache_paths(spec: DatasetSpec, data_dir: Path, split: SplitName) -> tuple[Path, Path]:
    folder = _folders.prepared_folder(spec, data_dir) / "cache"
    return folder / f"{split}-images.npy", folder / f"{split}-labels.npy"


def _open_cache(spec: DatasetSpec, data_dir: Path, split: SplitName) -> Split | None:
    images_path, labels_path = _cache_paths(spec, data_dir, split)
    images = _open_array(images_path, spec.images_shape(split), np.dtype(np.uint8))
    labels = _open_array(labels_path, (spec.num_examples[split],), np.dtype(np.int32))
    if images is None or labels is None:
        return None
    if labels.min() < 0 or labels.max() >= spec.num_classes:
        return None
    labels = np.array(labels)
    labels.flags.writeable = False
    return Split(images, labels, spec.num_classes)


def _open_array(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """Map an .npy file read-only; None if it is absent or not exactly this array."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
        size = path.stat().st_size
    except (OSError, ValueError):
        return None
    sound = array.shape == shape and array.dtype == dtype and array.flags.c_contiguous
    return array if sound and size == array.offset + array.nbytes else None


def _build_cache(spec: DatasetSpec, data_dir: Path, split: SplitName, report: OnProgress) -> None:
    images_path, labels_path = _cache_paths(spec, data_dir, split)
    images_path.parent.mkdir(exist_ok=True)
    all_labels: list[NDArray[np.int32]] = []

    def image_blocks() -> Iterator[NDArray[np.uint8]]:
        blocks = _prepared_blocks(spec, data_dir, split)
        what = f"Caching {spec.name} {split}"
        for images, labels in report_blocks(blocks, what, spec.num_examples[split], report):
            all_labels.append(labels)
            yield images

    _write_array(images_path, spec.images_shape(split), np.dtype(np.uint8), image_blocks())
    _write_array(labels_path, (spec.num_examples[split],), np.dtype(np.int32), iter(all_labels))


def _write_array(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], blocks: Iterator[NDArray[Any]]
) -> None:
    """Write an .npy file a block at a time and put it in its place at once."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    # Not through a map: writing to a map on a full disk kills the process.
    with replacing(path) as temporary, temporary.open("xb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype).data)


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
            raise _damaged_error(spec, data_dir, f"the {split} split has {len(source)} examples, not {count}")
        for start in range(0, count, _BLOCK_EXAMPLES):
            examples = source.__getitems__(range(start, min(start + _BLOCK_EXAMPLES, count)))
            images = np.stack([example["image"] for example in examples])
            yield images, np.array([example["label"] for example in examples], np.int32)
    # What TFDS and array_record raise for damaged descriptions and records, found by damaging them.
    except (RuntimeError, ValueError, KeyError, AssertionError, ParseError) as error:
        raise _damaged_error(spec, data_dir, str(error).partition("\n")[0]) from error


def _damaged_error(spec: DatasetSpec, data_dir: Path, reason: str) -> DatasetError:
    folder = _folders.prepared_folder(spec, data_dir)
    return DatasetError(
        f"The prepared files of {spec.name} in {folder} are damaged: {reason}.",
        f"Remove that folder, then type {_folders.prepare_command(spec, data_dir)} or "
        f"{_folders.import_command(spec, data_dir)}.",
    )
