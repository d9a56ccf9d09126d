"""Data sets that ship with the package."""

from importlib import resources
from pathlib import Path

import numpy as np

from hepcli.data._spec import Bundled, DatasetSpec, Split, SplitName


def load_bundled(spec: DatasetSpec, source: Bundled, split: SplitName) -> Split:
    """Read one split of a bundled data set."""
    with (resources.files("hepcli.data") / source.resource).open("rb") as file, np.load(file) as arrays:
        images = arrays[f"{split}_images"]
        labels = arrays[f"{split}_labels"].astype(np.int32)
    # As read-only as the memory-mapped splits: code must not work with one kind only.
    images.flags.writeable = False
    labels.flags.writeable = False
    return Split(images, labels, spec.num_classes)


def bundled_path(source: Bundled) -> Path:
    """Return where a bundled data set lies, for display."""
    return Path(str(resources.files("hepcli.data") / source.resource))
