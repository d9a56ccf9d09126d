import hashlib
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from hepcli.data import load_split
from hepcli.data._idx import read_idx

OFFICIAL = Path(__file__).parents[3] / "shared" / "data" / "fashion-mnist"
SHA256 = {  # of the raw image bytes, then of the labels as bytes
    "train": (
        "29c8d9f398a29fc328af7ba681dfc3bd86ec4075b43ba2ff985128028b9b3f00",
        "4e4631c48d94add2f9bebe6a9bd67ebbd633b278f520428e19d7b21f84506ed0",
    ),
    "test": (
        "8d46efb2efae7259de048298adb99140d06082b91c430833a54d7ce30f21c9c9",
        "86fea14d645de73ec2f8e0e859add59c557ccdf73e3e419692220b128c15ec47",
    ),
}


@pytest.mark.parametrize(("split", "count"), [("train", 5000), ("test", 1000)])
def test_shape_and_content(split, count):
    loaded = load_split("fashion_mnist_mini", split)
    assert loaded.images.shape == (count, 28, 28, 1)
    assert loaded.images.dtype == np.uint8
    assert loaded.labels.shape == (count,)
    assert loaded.labels.dtype == np.int32
    assert loaded.num_classes == 10
    images_sha256, labels_sha256 = SHA256[split]
    assert hashlib.sha256(loaded.images.tobytes()).hexdigest() == images_sha256
    assert hashlib.sha256(loaded.labels.astype(np.uint8).tobytes()).hexdigest() == labels_sha256


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the official files are not beside the repository")
@pytest.mark.parametrize(("split", "prefix"), [("train", "train"), ("test", "t10k")])
def test_is_the_head_of_the_official_split(split, prefix):
    loaded = load_split("fashion_mnist_mini", split)
    count = len(loaded.labels)
    images = read_idx(OFFICIAL / f"{prefix}-images-idx3-ubyte.gz", 3)
    labels = read_idx(OFFICIAL / f"{prefix}-labels-idx1-ubyte.gz", 1)
    np.testing.assert_array_equal(loaded.images[..., 0], images[:count])
    np.testing.assert_array_equal(loaded.labels, labels[:count])


def test_licence_notice_lies_beside_it():
    room = resources.files("hepcli.data")
    notice = (room / "fashion_mnist_mini.LICENSE.txt").read_text(encoding="utf-8")
    assert "Copyright (c) 2017 Zalando SE" in notice
    assert "Permission is hereby granted" in notice


def test_file_is_small():
    assert len((resources.files("hepcli.data") / "fashion_mnist_mini.npz").read_bytes()) < 3_000_000
