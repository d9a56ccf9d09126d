"""A made-up data set in the official layout of Fashion-MNIST, small enough to prepare in a moment."""

import dataclasses
import gzip
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from hepcli.data import DATASETS, DatasetSpec

NUM_EXAMPLES = {"train": 12, "test": 5}
PREFIX = {"train": "train", "test": "t10k"}


@dataclass
class Archives:
    """A folder of archives and what they hold."""

    folder: Path
    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]

    def path(self, split, kind):
        return self.folder / f"{PREFIX[split]}-{kind}-idx{3 if kind == 'images' else 1}-ubyte.gz"

    def write(self, split, kind, array, magic=None):
        content = struct.pack(f">{1 + array.ndim}I", magic or (8 << 8 | array.ndim), *array.shape)
        self.path(split, kind).write_bytes(gzip.compress(content + array.tobytes(), mtime=0))


@pytest.fixture
def small_spec(monkeypatch) -> DatasetSpec:
    """fashion_mnist with a dozen images of 4 × 5 pixels, for this test only."""
    spec = dataclasses.replace(DATASETS["fashion_mnist"], image_shape=(4, 5, 1), num_examples=NUM_EXAMPLES)
    monkeypatch.setitem(DATASETS, "fashion_mnist", spec)
    return spec


@pytest.fixture
def archives(tmp_path, small_spec) -> Archives:
    generator = np.random.default_rng(0)
    folder = tmp_path / "source"
    folder.mkdir()
    made = Archives(folder, {}, {})
    for split, count in NUM_EXAMPLES.items():
        made.images[split] = generator.integers(0, 256, (count, 4, 5), dtype=np.uint8)
        made.labels[split] = generator.integers(0, 10, count, dtype=np.uint8)
        made.write(split, "images", made.images[split])
        made.write(split, "labels", made.labels[split])
    return made


@pytest.fixture
def data_dir(tmp_path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def prepared(data_dir) -> Path:
    """Where fashion_mnist lies once it is prepared in data_dir."""
    return data_dir / "fashion_mnist" / "1.0.0"
