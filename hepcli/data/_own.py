"""Data sets of a user's own images: arrays in an .npz file, or a folder of images for each class."""

import json
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepcli.data import _folders
from hepcli.data._arrays import checked_arrays, checked_splits, spec_of
from hepcli.data._cache import digests_of, open_arrays, write_arrays
from hepcli.data._interrupted import IMPORT_PREFIX, clean_start
from hepcli.data._npz import ARCHIVE_ERRORS, HEADER_ERRORS
from hepcli.data._spec import SPLIT_NAMES, DatasetSpec, Imported, OnProgress, Split, SplitName
from hepcli.errors import DatasetError
from hepcli.files import legible
from hepcli.settings import DATASETS, did_you_mean, is_own_name

_FOLDER, _INFO = "own", "own.json"
_SUFFIXES = (".png", ".jpg", ".jpeg")
_SYSTEM_FILES = ("Thumbs.db", "desktop.ini")  # of file managers, not hidden everywhere
_TEST_SHARE = 6  # one in so many examples, where a source has no test split
_GREY = ("1", "L")  # Pillow's modes
_COLOUR = ("LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_IN_PAIRS = (
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x_train", "y_train", "x_test", "y_test"),
)
_IN_ONE = (("images", "labels"), ("x", "y"))

_DAMAGED = (OSError, SyntaxError, ValueError, TypeError, LookupError, struct.error, zlib.error)
"""What Pillow raises for damaged files, found by damaging them."""

Pair = tuple[Any, Any]


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
    pairs, classes = _read_folders(source) if source.is_dir() else (_read_npz(source), None)
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
        raise _unreadable(folder / _INFO, error) from error
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


def _unreadable(path: Path, error: OSError) -> DatasetError:
    """A file that the system refuses to read, which says nothing of its content."""
    return DatasetError(
        f"{path} cannot be read: {error.strerror or error}.", "Check its permissions and the disk."
    )


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
        raise (_no_source(path) if error.errno is None else _unreadable(path, error)) from error
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
            f"{path} also contains {', '.join(unused)}, which would be left out beside {', '.join(used)}.",
            "Take it out, or name both splits train_images, train_labels, test_images, test_labels.",
        )


def _no_source(path: Path) -> DatasetError:
    return DatasetError(
        f"{path} is not an .npz file of numeric arrays.",
        "Write one with numpy.savez_compressed(FILE, images=…, labels=…), or give a folder of images.",
    )


def _read_folders(source: Path) -> tuple[dict[SplitName, Pair], list[str]]:
    """The images of each class, in the order of their names, and the names of the classes."""
    splits = {split: source / split for split in SPLIT_NAMES if (source / split).is_dir()}
    if len(splits) == 1:
        raise DatasetError(
            f"{source} contains only {next(iter(splits))}.", "Give both train and test, or neither."
        )
    if splits and (others := sorted(set(_visible_folders(source)) - set(SPLIT_NAMES))):
        raise DatasetError(
            f"{source} contains {others[0]} besides train and test.",
            "Move it elsewhere; validation examples come from train (data.validation_examples).",
        )
    roots: Mapping[SplitName, Path] = splits or {"train": source}
    for root in roots.values():
        if loose := [path for path in sorted(root.iterdir()) if _is_image(path)]:
            raise DatasetError(f"{loose[0]} belongs to no class.", "Move it into the folder of its class.")
    classes = _visible_folders(roots["train"])
    if len(classes) < 2:
        raise DatasetError(
            f"{roots['train']} contains {len(classes)} class folders; at least 2 are needed.",
            "Give a folder with one subfolder of PNG or JPEG images per class.",
        )
    for root in roots.values():
        if unknown := sorted(set(_visible_folders(root)) - set(classes)):
            raise DatasetError(
                f"{root / unknown[0]}: the training split has no such class.",
                "Use the same class folders in train and test.",
            )
    files = {
        split: [(path, label) for label, name in enumerate(classes) for path in _images_in(root / name)]
        for split, root in roots.items()
    }
    trained = {label for _, label in files["train"]}
    if empty := [name for label, name in enumerate(classes) if label not in trained]:
        raise DatasetError(
            f"{roots['train'] / empty[0]} contains no PNG or JPEG images.",
            "Convert the images of this class, or remove its folder.",
        )
    every = [path for own in files.values() for path, _ in own]
    is_grey = all(mode in _GREY for mode in _modes(every))
    pairs = {
        split: (_pixels([path for path, _ in own], is_grey=is_grey), np.array([label for _, label in own]))
        for split, own in files.items()
    }
    return pairs, classes


def _visible_folders(root: Path) -> list[str]:
    """Their names in order; numbers as numbers, so that 10 follows 9."""
    names = [path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    are_numbers = all(map(str.isdecimal, names))
    return sorted(names, key=lambda name: (int(name) if are_numbers else 0, name))


def _is_image(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and path.suffix.lower() in _SUFFIXES


def _images_in(folder: Path) -> list[Path]:
    """PNG and JPEG files, but not those that file managers hide beside them.

    Raises:
        DatasetError: there is something else, which would be left out.
    """
    if not folder.is_dir():  # a class without test images
        return []
    found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for path in found:
        if path.name not in _SYSTEM_FILES and (path.is_dir() or path.suffix.lower() not in _SUFFIXES):
            what = "folder" if path.is_dir() else "file"
            raise DatasetError(
                f"{path} is not a PNG or JPEG image.",
                f"Convert this {what} to images of its class, or move it elsewhere.",
            )
    return [path for path in found if path.name not in _SYSTEM_FILES]


def _modes(paths: list[Path]) -> Iterator[str]:
    """The kinds of pixels of all images.

    Raises:
        DatasetError: some have more than 8 bits a channel, which would be cut off, or are transparent.
    """
    for path in paths:
        with _opened(path) as image:
            if image.mode not in (*_GREY, *_COLOUR) or _is_deep(image):
                mode = _raw_mode(image)
                raise DatasetError(
                    f"{path} has pixels of mode {mode}, which do not fit into 8 bits per channel.",
                    "Convert it to 8-bit grey or RGB.",
                )
            if _is_transparent(image, path):
                raise DatasetError(f"{path} has transparent pixels.", "Save it without an alpha channel.")
            yield image.mode


def _raw_mode(image: Any) -> str:
    """How pixels are stored in the file; Pillow's mode is what it makes of them."""
    parameters = image.tile[0][-1] if image.tile else None
    raw = parameters[0] if isinstance(parameters, tuple) and parameters else parameters
    return raw if isinstance(raw, str) else str(image.mode)


def _is_deep(image: Any) -> bool:
    """Whether channels have 16 bits, of which Pillow keeps eight."""
    return ";16" in _raw_mode(image)


def _is_transparent(image: Any, path: Path) -> bool:
    if "A" not in image.getbands() and "transparency" not in image.info:
        return False
    try:
        least, _ = image.convert("RGBA").getchannel("A").getextrema()
    except _DAMAGED as error:
        raise _no_image(path) from error
    return bool(least < 255)


def _pixels(paths: list[Path], *, is_grey: bool) -> NDArray[np.uint8]:
    """Images one over the other, upright as their EXIF data say: (examples, height, width, 1 or 3)."""
    from PIL import ImageOps

    result: NDArray[np.uint8] | None = None
    for number, path in enumerate(paths):
        with _opened(path) as image:
            try:
                upright = ImageOps.exif_transpose(image)
                pixels = np.asarray(upright.convert("L" if is_grey else "RGB"))
            except _DAMAGED as error:
                raise _no_image(path) from error
        if result is None:
            result = np.empty((len(paths), *pixels.shape), np.uint8)
        if pixels.shape != result.shape[1:]:
            sizes = [f"{shape[0]} × {shape[1]}" for shape in (pixels.shape, result.shape[1:])]
            raise DatasetError(
                f"{path} has {sizes[0]} pixels, {paths[0]} has {sizes[1]}.",
                "Resize all images to the same size.",
            )
        result[number] = pixels
    if result is None:
        return np.empty((0, 0, 0, 1), np.uint8)
    return result[..., np.newaxis] if is_grey else result


def _opened(path: Path) -> Any:
    from PIL import Image

    try:
        return Image.open(path)
    except OSError as error:
        raise (_no_image(path) if error.errno is None else _unreadable(path, error)) from error
    except (Image.DecompressionBombError, *_DAMAGED) as error:
        raise _no_image(path) from error


def _no_image(path: Path) -> DatasetError:
    return DatasetError(f"{path} cannot be read as an image.", "Remove it, or write it again.")


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
