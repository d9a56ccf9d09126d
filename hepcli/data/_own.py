"""Data sets of a user's own images: arrays in an .npz file, or a folder of images for each class."""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepcli.data import _folders
from hepcli.data._arrays import checked_arrays, checked_splits, spec_of
from hepcli.data._cache import digests_of, open_arrays, write_arrays
from hepcli.data._images import Pair, read_folders, unreadable
from hepcli.data._interrupted import IMPORT_PREFIX, clean_start
from hepcli.data._npz import ARCHIVE_ERRORS, HEADER_ERRORS
from hepcli.data._spec import SPLIT_NAMES, DatasetSpec, Imported, OnProgress, Split, SplitName
from hepcli.errors import DatasetError
from hepcli.files import legible
from hepcli.settings import DATASETS, did_you_mean, is_own_name

_FOLDER, _INFO = "own", "own.json"
_TEST_SHARE = 6  # one in so many examples, where a source has no test split
_IN_PAIRS = (
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x_train", "y_train", "x_test", "y_test"),
)
_IN_ONE = (("images", "labels"), ("x", "y"))


def import_own(name: str, source: Path, data_dir: Path | None, report: OnProgress) -> Path:
    """Make a data set of images of a user's own.

    Args:
        name: what to call it.
        source: an .npz file with `images` (examples, height, width[, channels]), uint8, and `labels`, or with
            `train_images`, `train_labels`, `test_images`, `test_labels` (also `x_train`, …); or a folder with
            a folder of PNG or JPEG images for each class, or with `train` and `test` that hold those.
            Without a test split, a sixth of each class becomes it, always the same. Arrays keep their order;
            images of folders are mixed, always in the same way, so that the first of a split stand for it.
        data_dir: where data sets are kept; None for the default folder.
        report: receives progress, a line at a time.

    Returns:
        The folder it lies in.

    Raises:
        DatasetError: the name is taken or no name, the source cannot be read or its images and labels do not
            fit, or the data folder cannot be written. Nothing is left then.
    """
    if not is_own_name(name):
        hint = did_you_mean(name, DATASETS).removeprefix("; ").capitalize()
        rule = "Use lower-case letters, digits and _, and a name unlike those of other data sets."
        raise DatasetError(f"Your data set cannot be named {name!r}.", f"{hint} {rule}".lstrip())
    directory = _folders.resolve_data_dir(data_dir)
    folder = _own_folder(name, directory)
    if folder.exists():
        raise _taken(folder, name)
    report(f"Reading {name} from {source}")
    pairs, classes = read_folders(source) if source.is_dir() else (_read_npz(source), None)
    if classes is not None:
        report(f"Classes: {', '.join(f'{label} = {name}' for label, name in enumerate(classes))}")
    if "test" not in pairs:
        report(
            f"{source} has no test split: one sixth of the examples of each class is used as the test split."
        )
        pairs = _divided(*pairs["train"], str(source))
    if classes is not None:
        pairs = {split: _mixed(*pair) for split, pair in pairs.items()}
    splits = checked_splits(pairs, str(source))
    spec = spec_of(name, splits)
    _folders.require_writable(directory)
    _folders.require_space(spec, directory, 0)
    info = {
        "source": legible(str(source.absolute())),
        "image_shape": list(spec.image_shape),
        "num_classes": spec.num_classes,
        "num_examples": dict(spec.num_examples),
        "classes": classes,
    }
    try:
        with (
            clean_start(spec, directory, report),
            tempfile.TemporaryDirectory(prefix=IMPORT_PREFIX, dir=folder.parent) as temporary,
        ):
            whole = Path(temporary) / _FOLDER
            whole.mkdir()
            for split, examples in splits.items():
                write_arrays(spec, whole, split, iter([(examples.images, examples.labels)]))
            (whole / _INFO).write_text(json.dumps(info, indent=2) + "\n", "utf-8")
            os.rename(whole, folder)
    except OSError as error:
        if folder.exists():  # another process has imported one of that name in the meantime
            raise _taken(folder, name) from error
        raise _folders.write_error(directory, error) from error
    counts = ", ".join(f"{count:,} {split}" for split, count in spec.num_examples.items())
    size = " × ".join(map(str, spec.image_shape))
    report(f"Imported {name} ({counts} examples of {spec.num_classes} classes, {size}) to {folder}")
    return folder


def find_own(name: str, data_dir: Path | None) -> DatasetSpec | None:
    """The spec of an imported data set; None where there is none of that name.

    Raises:
        DatasetError: its description is damaged.
    """
    folder = _own_folder(name, _folders.resolve_data_dir(data_dir))
    try:
        info = json.loads((folder / _INFO).read_bytes())
        height, width, channels = map(int, info["image_shape"])
        counts = {split: int(info["num_examples"][split]) for split in SPLIT_NAMES}
        names = None if info.get("classes") is None else tuple(map(str, info["classes"]))
        return DatasetSpec(
            name, (height, width, channels), int(info["num_classes"]), counts, Imported(folder), names
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise unreadable(folder / _INFO, error) from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise _damaged(name, folder) from error


def load_own(spec: DatasetSpec, source: Imported, split: SplitName) -> Split:
    """Open a split of an imported data set, its images memory-mapped.

    Raises:
        DatasetError: it is not what was imported.
    """
    found = open_arrays(spec, source.folder, split)
    # The description has no digest: what it says of the classes is checked against the labels.
    if found is None or (split == "train" and int(found.labels.max()) + 1 != spec.num_classes):
        raise _damaged(spec.name, source.folder)
    return found


def own_fingerprint(spec: DatasetSpec, source: Imported) -> str:
    """The SHA-256 of what was imported; raises DatasetError where it is not on record."""
    try:
        return digests_of(source.folder)
    except OSError as error:
        raise _damaged(spec.name, source.folder) from error


def own_names(data_dir: Path | None) -> list[str]:
    """What has been imported, by name."""
    return sorted(
        path.parent.parent.name for path in _folders.resolve_data_dir(data_dir).glob(f"*/{_FOLDER}/{_INFO}")
    )


def _taken(folder: Path, name: str) -> DatasetError:
    return DatasetError(
        f"{folder} already contains a data set {name}.", "Choose another name, or remove that folder first."
    )


def _own_folder(name: str, data_dir: Path) -> Path:
    return data_dir / name / _FOLDER


def _damaged(name: str, folder: Path) -> DatasetError:
    return DatasetError(
        f"{folder} has changed since {name} was imported.",
        f"Remove it and run `hep data import {name} SOURCE` again.",
    )


def _read_npz(path: Path) -> dict[SplitName, Pair]:
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise _no_source(path)
            for keys in _IN_PAIRS:
                if set(keys) <= set(file.files):
                    _check_all_used(path, file.files, keys)
                    arrays = [file[key] for key in keys]
                    return {"train": (arrays[0], arrays[1]), "test": (arrays[2], arrays[3])}
            for images, labels in _IN_ONE:
                if {images, labels} <= set(file.files):
                    _check_all_used(path, file.files, (images, labels))
                    return {"train": (file[images], file[labels])}
            raise DatasetError(
                f"{path} contains {', '.join(file.files) or 'nothing'}.",
                "Name its arrays images and labels, or train_images, train_labels, test_images, test_labels.",
            )
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DatasetError(
            f"There is no {path}.", "Give an .npz file, or a folder with one subfolder of images per class."
        ) from error
    except OSError as error:
        raise (_no_source(path) if error.errno is None else unreadable(path, error)) from error
    except MemoryError as error:
        raise DatasetError(
            f"The arrays of {path} do not fit into memory: {error}.",
            "Import it on a machine with more memory, or write the file again if it is damaged.",
        ) from error
    except (*ARCHIVE_ERRORS, *HEADER_ERRORS) as error:
        raise _no_source(path) from error


def _check_all_used(path: Path, names: Sequence[str], used: Sequence[str]) -> None:
    if unused := [name for name in names if name not in used]:
        raise DatasetError(
            f"{path} also contains {', '.join(unused)}, which would be ignored next to {', '.join(used)}.",
            "Remove it, or name both splits train_images, train_labels, test_images, test_labels.",
        )


def _no_source(path: Path) -> DatasetError:
    return DatasetError(
        f"{path} is not an .npz file of numeric arrays.",
        "Write one with numpy.savez_compressed(FILE, images=…, labels=…), or give a folder of images.",
    )


def _mixed(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Pair:
    """The examples in another order, always the same, in which classes do not follow one another."""
    order = np.random.default_rng(0).permutation(len(labels))
    return images[order], labels[order]


def _divided(images: Any, labels: Any, source: str) -> dict[SplitName, Pair]:
    """Divide examples into training and test, each class by its share."""
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim and labels.ndim and len(images) != len(labels):
        raise DatasetError(
            f"{source}: {len(images)} images, but {len(labels)} labels.", "Give a label for each image."
        )
    images, labels = checked_arrays(images, labels, f"{source}:")  # before examples get other numbers
    rng, chosen = np.random.default_rng(0), np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        if len(own) == 1:
            raise DatasetError(
                f"{source}: class {label} has only one example, which cannot be split into training and "
                "test.",
                "Add examples, or provide both splits.",
            )
        chosen[rng.permutation(own)[: max(1, len(own) // _TEST_SHARE)]] = True
    return {"train": (images[~chosen], labels[~chosen]), "test": (images[chosen], labels[chosen])}
