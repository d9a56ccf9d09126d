"""Opening a split, and listing what there is to open."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from hepcli.data import _folders
from hepcli.data._bundled import bundled_path, load_bundled
from hepcli.data._cache import load_cached
from hepcli.data._own import load_own, own_fingerprint, own_names
from hepcli.data._registry import find_spec
from hepcli.data._spec import SPLIT_NAMES, Bundled, DatasetSpec, Imported, InMemory, Split, SplitName
from hepcli.errors import DatasetError
from hepcli.settings import DATASETS

State = Literal["bundled", "prepared", "missing", "imported", "own code", "damaged"]


@dataclass(frozen=True)
class DatasetInfo:
    """What `hep data list` says of one data set.

    Attributes:
        name: what `data.name` calls it.
        state: whether it can be loaded, and why.
        train_examples: number of training examples.
        test_examples: number of test examples.
        num_classes: number of classes.
        location: the file or folder it is read from; None when missing or of own code.
    """

    name: str
    state: State
    train_examples: int
    test_examples: int
    num_classes: int
    location: Path | None


def load_split(name: str, split: SplitName, data_dir: Path | None = None) -> Split:
    """Load one split of a data set, in the official order.

    Args:
        name: a key of DATASETS, or what a user has imported.
        split: "train" or "test".
        data_dir: where data sets are kept; None for the default folder.

    Returns:
        Read-only arrays; the images of prepared and imported data sets are memory-mapped, unless no cache can
        be written.

    Raises:
        DatasetError: unknown name, not prepared (the advice names the commands), or damaged.
    """
    spec = find_spec(name, data_dir)
    if isinstance(spec.source, Bundled):
        return load_bundled(spec, spec.source, split)
    if isinstance(spec.source, InMemory):
        return spec.source.splits[split]
    if isinstance(spec.source, Imported):
        return load_own(spec, spec.source, split)
    folder = _folders.resolve_data_dir(data_dir)
    if not _folders.is_prepared(spec, folder):
        raise _folders.missing_error(spec, folder)
    return load_cached(spec, folder, split)


def fingerprint(spec: DatasetSpec) -> str | None:
    """The SHA-256 of the examples of a user's own; None for official ones.

    Raises:
        DatasetError: it is damaged.
    """
    if isinstance(spec.source, Imported):
        return own_fingerprint(spec, spec.source)
    if not isinstance(spec.source, InMemory):
        return None
    digest = hashlib.sha256()
    for split in SPLIT_NAMES:
        for array in spec.source.splits[split][:2]:
            digest.update(np.ascontiguousarray(array).data.cast("B"))
    return digest.hexdigest()


def list_datasets(data_dir: Path | None = None) -> list[DatasetInfo]:
    """Describe every known data set and whether it is there.

    Args:
        data_dir: where data sets are kept; None for the default folder.
    """
    folder = _folders.resolve_data_dir(data_dir)
    return [_describe(name, data_dir, folder) for name in (*DATASETS, *own_names(data_dir))]


def _describe(name: str, own_dir: Path | None, data_dir: Path) -> DatasetInfo:
    try:
        spec = find_spec(name, own_dir)
    except DatasetError:  # whoever uses it is told why
        return DatasetInfo(name, "damaged", 0, 0, 0, data_dir / name)
    state: State
    location: Path | None
    if isinstance(spec.source, InMemory):
        state, location = "own code", None
    elif isinstance(spec.source, Imported):
        state, location = "imported", spec.source.folder
    elif isinstance(spec.source, Bundled):
        state, location = "bundled", bundled_path(spec.source)
    elif _folders.is_prepared(spec, data_dir):
        state, location = "prepared", _folders.prepared_folder(spec, data_dir)
    else:
        state, location = "missing", None
    counts = spec.num_examples
    return DatasetInfo(spec.name, state, counts["train"], counts["test"], spec.num_classes, location)
