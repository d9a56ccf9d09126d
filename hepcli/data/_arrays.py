"""Examples that users bring: arrays checked before anything is made of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepcli.data._spec import SPLIT_NAMES, DatasetSpec, InMemory, Split, SplitName
from hepcli.errors import DatasetError

_MOST_CLASSES = 100_000  # more are regression targets taken for labels

Pair = tuple[NDArray[np.uint8], NDArray[np.int32]]


def checked_splits(pairs: Mapping[SplitName, tuple[Any, Any]], source: str) -> dict[SplitName, Split]:
    """Check images and labels of both splits, by themselves and against each other.

    Args:
        pairs: split -> images and labels.
        source: what to call them in errors.

    Returns:
        The splits; images have all four axes.

    Raises:
        DatasetError: images are no uint8 arrays or of several sizes, labels are not whole numbers from 0, or
            a class is missing from the training split.
    """
    checked = {split: checked_arrays(*pairs[split], f"{source}: {split}") for split in SPLIT_NAMES}
    shapes = {split: images.shape[1:] for split, (images, _) in checked.items()}
    if shapes["train"] != shapes["test"]:
        raise DatasetError(
            f"{source}: training images are {_size(shapes['train'])}, test images {_size(shapes['test'])}.",
            "Give images of one size.",
        )
    num_classes = int(checked["train"][1].max()) + 1
    if num_classes < 2:
        raise DatasetError(f"{source}: all training labels are 0.", "Give examples of at least 2 classes.")
    missing = np.setdiff1d(np.arange(num_classes), checked["train"][1])
    if missing.size:
        raise DatasetError(
            f"{source}: training labels go up to {num_classes - 1}, but class {missing[0]} has no example.",
            "Number the classes 0, 1, 2, … without a gap.",
        )
    largest = int(checked["test"][1].max())
    if largest >= num_classes:
        raise DatasetError(
            f"{source}: test label {largest} is outside 0 … {num_classes - 1}, the range of the training "
            "labels.",
            "Give training examples of every class.",
        )
    return {split: Split(*pair, num_classes) for split, pair in checked.items()}


def checked_arrays(images: Any, labels: Any, source: str) -> Pair:
    """Check images and labels by themselves.

    Args:
        images: uint8 (examples, height, width) or (examples, height, width, channels).
        labels: whole numbers (examples,) or (examples, 1).
        source: what to call them in errors.

    Returns:
        Images with all four axes, and labels as int32.

    Raises:
        DatasetError: they are something else, or there is not one label for each image.
    """
    try:
        images, labels = np.asarray(images), np.asarray(labels)
    except ValueError as error:  # lists of unequal lengths
        reason = str(error).rstrip(".")
        raise DatasetError(
            f"{source} images or labels are no arrays: {reason}.", "All images must have the same size."
        ) from error
    if images.dtype != np.uint8:
        scale = "np.round(255 * images)" if images.dtype.kind in "fb" else "images"
        raise DatasetError(
            f"{source} images are {images.dtype}, not uint8.",
            f"Give pixels from 0 to 255, for example np.uint8({scale}).",
        )
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or 0 in images.shape:
        raise DatasetError(
            f"{source} images have shape {images.shape}.",
            "It must be (examples, height, width) or (examples, height, width, channels).",
        )
    if images.shape[1] <= 4 < min(images.shape[2:]):
        raise DatasetError(
            f"{source} images have shape {images.shape}: the channels seem to come first.",
            "Put them last: images.transpose(0, 2, 3, 1).",
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (len(images),):
        raise DatasetError(
            f"{source} labels are {labels.dtype} of shape {labels.shape}.",
            f"They must be whole numbers, one for each of the {len(images)} images.",
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= _MOST_CLASSES))
    if wrong.size:
        raise DatasetError(
            f"{source} label {labels[wrong[0]]} of example {wrong[0]} is not a valid class.",
            "Number the classes 0, 1, 2, …",
        )
    return np.ascontiguousarray(images), labels.astype(np.int32)


def spec_of(name: str, splits: Mapping[SplitName, Split]) -> DatasetSpec:
    """What a data set of checked splits is."""
    train = splits["train"]
    height, width, channels = train.images.shape[1:]
    counts = {split: len(own.labels) for split, own in splits.items()}
    return DatasetSpec(name, (height, width, channels), train.num_classes, counts, InMemory(splits))


@dataclass(frozen=True)
class OwnDataset:
    """A data set that a user's own function gives.

    Attributes:
        name: what presets call it.
        load: "train" or "test" -> images and labels.
        place: where it was defined, for messages.
    """

    name: str
    load: Callable[[SplitName], tuple[Any, Any]]
    place: str

    @cached_property
    def spec(self) -> DatasetSpec:
        """What it is; raises DatasetError where the function gives no data set."""
        pairs: dict[SplitName, tuple[Any, Any]] = {}
        for split in SPLIT_NAMES:
            pair = self.load(split)
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise DatasetError(
                    f"{self.place}: data set {self.name} did not return a pair.", "Return images, labels."
                )
            pairs[split] = pair[0], pair[1]
        splits = {
            split: Split(_read_only(own.images), _read_only(own.labels), own.num_classes)
            for split, own in checked_splits(pairs, f"{self.place}: {self.name}").items()
        }
        return spec_of(self.name, splits)


def _read_only(array: Any) -> Any:
    """A view that cannot be written to; the user's own array stays as it is."""
    view = array.view()
    view.flags.writeable = False
    return view


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
