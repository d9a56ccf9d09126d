"""The thin TFDS builder: raw uint8 tensors as array_record, written and read without TensorFlow.

The official builders encode images, and that needs TensorFlow; their registered addresses
and checksums do not, so those are used as they are.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepcli.data import _folders
from hepcli.data._progress import report_blocks
from hepcli.data._spec import SPLIT_NAMES, Archives, Block, DatasetSpec, OnProgress, SplitName
from hepcli.errors import DatasetError

ShardExamples = Callable[[], Iterator[tuple[int, dict[str, Any]]]]

_SHARD_BYTES = 128 << 20  # of images; TFDS holds one shard's examples in memory


class OfficialFile(NamedTuple):
    """An archive as its publisher offers it: address, size in bytes, SHA-256 in hexadecimal."""

    url: str
    size: int
    sha256: str


def official_archives(source: Archives) -> dict[str, OfficialFile]:
    """Look up a data set's archives, by file name, in the metadata TFDS registers."""
    import tensorflow_datasets as tfds

    url_infos = tfds.builder_cls(source.tfds_name).url_infos
    by_name = {url.rsplit("/", 1)[-1]: (url, info) for url, info in url_infos.items()}
    return {
        name: OfficialFile(by_name[name][0], int(by_name[name][1].size), by_name[name][1].checksum)
        for name in source.filenames
    }


def make_builder(
    spec: DatasetSpec,
    data_dir: Path,
    fetch: Callable[[Any], Mapping[str, Path]] | None = None,
    official: Mapping[str, OfficialFile] | None = None,
    report: OnProgress | None = None,
) -> Any:
    """Return a TFDS builder of a data set that comes from archives.

    Args:
        spec: the data set; its source must be Archives.
        data_dir: where TFDS keeps data sets; nothing is written yet.
        fetch: given TFDS's download manager, returns the archives' paths by official name;
            None for a builder that only reads what is prepared.
        official: the addresses and checksums that downloads are checked against.
        report: receives progress while the data set is written.

    Raises:
        DatasetError: the description of a prepared data set is damaged.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.dataset_builder import ShardBasedBuilder

    # Not GeneratorBasedBuilder: beyond 1 GB it needs TensorFlow, and memory for a whole split.
    class RawImages(ShardBasedBuilder, skip_registration=True):  # type: ignore[misc, call-arg]
        name = spec.name
        url_infos = _url_infos(official or {})
        VERSION = tfds.core.Version(_folders.VERSION)

        def _info(self) -> Any:
            # The official order is part of what a data set is here: the bundled excerpt is its head.
            return tfds.core.DatasetInfo(builder=self, features=_features(spec), disable_shuffling=True)

        def _shard_iterators_per_split(self, dl_manager: Any) -> dict[str, list[ShardExamples]]:
            paths = fetch(dl_manager) if fetch else {}
            return {split: _shards(spec, paths, split, report) for split in SPLIT_NAMES}

    return RawImages(data_dir=data_dir, file_format="array_record")


def _url_infos(official: Mapping[str, OfficialFile]) -> dict[str, Any]:
    import tensorflow_datasets as tfds

    return {
        file.url: tfds.download.checksums.UrlInfo(
            size=tfds.core.utils.Size(file.size), checksum=file.sha256, filename=name
        )
        for name, file in official.items()
    }


def _features(spec: DatasetSpec) -> Any:
    from tensorflow_datasets import features

    image = features.Tensor(shape=spec.image_shape, dtype=np.uint8, encoding=features.Encoding.BYTES)
    return features.FeaturesDict({"image": image, "label": features.Scalar(np.int32)})


def _shards(
    spec: DatasetSpec, paths: Mapping[str, Path], split: SplitName, report: OnProgress | None
) -> list[ShardExamples]:
    """Cut a split into shards, which TFDS asks for one after another."""
    total = spec.num_examples[split]
    blocks = checked_blocks(spec, paths, split)
    if report is not None:
        blocks = report_blocks(blocks, f"Writing {spec.name} {split}", total, report)
    examples = _numbered_examples(blocks)
    size = max(1, _SHARD_BYTES // math.prod(spec.image_shape))
    whole = [functools.partial(itertools.islice, examples, size) for _ in range((total - 1) // size)]
    # The last shard takes all that is left, so that the checks at the end are met.
    return [*whole, lambda: examples]


def _numbered_examples(blocks: Iterator[Block]) -> Iterator[tuple[int, dict[str, Any]]]:
    pairs = (pair for images, labels in blocks for pair in zip(images, labels, strict=True))
    for index, (image, label) in enumerate(pairs):
        yield index, {"image": image, "label": label}


def checked_blocks(spec: DatasetSpec, paths: Mapping[str, Path], split: SplitName) -> Iterator[Block]:
    """Read a split from its archives and check it against the spec.

    Args:
        spec: the data set; its source must be Archives.
        paths: where the archives lie, by official name.
        split: the split to read.

    Yields:
        images uint8 (k, height, width, channels) and labels int32 (k,), in order.

    Raises:
        DatasetError: the content is not what the spec says.
    """
    if not isinstance(spec.source, Archives):
        raise TypeError(f"{spec.name} does not come from archives")
    expected = spec.num_examples[split]
    result = 0
    for images, labels in spec.source.read_blocks(paths, split):
        if images.shape[1:] != spec.image_shape:
            raise _content_error(
                spec, f"its {split} images are {_size(images.shape[1:])}, not {_size(spec.image_shape)}"
            )
        _check_labels(spec, split, labels, first=result)
        result += len(labels)
        if result > expected:
            raise _content_error(spec, f"its {split} split has at least {result} examples, not {expected}")
        yield images, labels
    if result != expected:
        raise _content_error(spec, f"its {split} split has {result} examples, not {expected}")


def _check_labels(spec: DatasetSpec, split: SplitName, labels: NDArray[np.int32], first: int) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= spec.num_classes))
    if wrong.size:
        raise _content_error(
            spec,
            f"label {labels[wrong[0]]} of {split} example {first + wrong[0]} is outside "
            f"0 … {spec.num_classes - 1}",
        )


def _content_error(spec: DatasetSpec, fault: str) -> DatasetError:
    return DatasetError(
        f"These archives are not {spec.name}: {fault}.",
        f"Fetch the official files again: {_folders.official_files(spec)}.",
    )


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
