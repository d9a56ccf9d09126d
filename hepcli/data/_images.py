"""Folders of a user's own images, one for each class."""

import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepcli.data._spec import SPLIT_NAMES, SplitName
from hepcli.errors import DatasetError

_SUFFIXES = (".png", ".jpg", ".jpeg")
_SYSTEM_FILES = ("Thumbs.db", "desktop.ini")  # of file managers, not hidden everywhere
_GREY = ("1", "L")  # Pillow's modes
_COLOUR = ("LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")

_DAMAGED = (OSError, SyntaxError, ValueError, TypeError, LookupError, struct.error, zlib.error)
"""What Pillow raises for damaged files, found by damaging them."""

Pair = tuple[Any, Any]
"""Images and their labels."""


def read_folders(source: Path) -> tuple[dict[SplitName, Pair], list[str]]:
    """Read a folder that has a folder of PNG or JPEG images for each class, or `train` and `test` that do.

    Returns:
        The images (examples, height, width, 1 or 3), uint8, and labels of each split that is there, class by
        class in the order of their names; and the names of the classes.

    Raises:
        DatasetError: something in it belongs to no class, would be left out, or is no image of 8 bits a
            channel and of the size of the others.
    """
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
        raise (_no_image(path) if error.errno is None else unreadable(path, error)) from error
    except (Image.DecompressionBombError, *_DAMAGED) as error:
        raise _no_image(path) from error


def _no_image(path: Path) -> DatasetError:
    return DatasetError(f"{path} cannot be read as an image.", "Remove it, or write it again.")


def unreadable(path: Path, error: OSError) -> DatasetError:
    """A file that the system refuses to read, which says nothing of its content."""
    return DatasetError(
        f"{path} cannot be read: {error.strerror or error}.", "Check its permissions and the disk."
    )
