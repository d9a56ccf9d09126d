import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from hepcli.data._idx import read_idx
from hepcli.data._mnist import _FILENAMES, FASHION_MNIST, KMNIST, _other_set
from hepcli.errors import DatasetError

LABELS = struct.pack(">II", 0x801, 3) + bytes([7, 0, 9])


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["unpacked", "gzip"])
def test_reads_packed_and_unpacked(tmp_path, pack):
    path = tmp_path / "labels"
    path.write_bytes(pack(LABELS))
    labels = read_idx(path, num_dimensions=1)
    assert labels.dtype == np.uint8
    assert labels.tolist() == [7, 0, 9]


@pytest.mark.parametrize(
    ("content", "num_dimensions", "fault"),
    [
        (LABELS[:-1], 1, "truncated: 10 bytes, but its header announces 11"),
        (LABELS + b"\0", 1, "too long"),
        (LABELS[:5], 1, "truncated"),
        (b"", 1, "truncated"),
        (LABELS + bytes(20), 3, "magic number is 0x00000801, not 0x00000803"),
        (gzip.compress(LABELS, mtime=0)[:-6], 1, "damaged gzip"),
        (gzip.compress(LABELS, mtime=0)[:10] + b"\xff" * 20, 1, "damaged gzip"),
        (struct.pack(">IIII", 0x803, 2**31, 2**31, 2**31), 3, "truncated"),
    ],
)
def test_damaged_file_is_named_with_its_fault(tmp_path, content, num_dimensions, fault):
    path = tmp_path / "train-labels"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=fault) as caught:
        read_idx(path, num_dimensions)
    assert str(path) in caught.value.what
    assert "Fetch this file again" in caught.value.advice


def test_wrong_checksum_inside_gzip(tmp_path):
    path = tmp_path / "labels.gz"
    packed = bytearray(gzip.compress(LABELS))
    packed[-8] ^= 1
    path.write_bytes(packed)
    with pytest.raises(DatasetError, match="damaged gzip"):
        read_idx(path, 1)


def test_unreadable_file(tmp_path):
    with pytest.raises(DatasetError, match="cannot be read"):
        read_idx(tmp_path, 1)


def test_no_more_is_unpacked_than_the_header_announces(tmp_path):
    """A small file that unpacks to a gigabyte is refused after a few bytes of it."""
    path = tmp_path / "images.gz"
    zeros = gzip.compress(bytes(1 << 22))
    path.write_bytes(gzip.compress(struct.pack(">IIII", 0x803, 1, 2, 2)) + zeros * 64)
    tracemalloc.start()
    with pytest.raises(DatasetError, match="too long"):
        read_idx(path, 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 22


@pytest.mark.parametrize(
    ("counts", "found"),
    [
        (6000, "kmnist"),
        ([980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009], "mnist"),
        (7, None),
    ],
)
def test_data_sets_of_one_file_name_are_told_apart(counts, found):
    """By their labels: images, counts and names of the three are alike."""
    labels = np.repeat(np.arange(10, dtype=np.uint8), counts)
    for name in ("mnist", "kmnist", "fashion_mnist"):
        assert _other_set(name, labels) == (None if found == name else found)


def test_labels_of_another_set_are_refused(tmp_path):
    labels = np.repeat(np.arange(10, dtype=np.uint8), 1000)
    paths = {}
    for name, array in zip(_FILENAMES["test"], (np.zeros((10_000, 1, 1), np.uint8), labels), strict=True):
        paths[name] = tmp_path / name
        header = struct.pack(f">{1 + array.ndim}I", 8 << 8 | array.ndim, *array.shape)
        paths[name].write_bytes(header + array.tobytes())
    next(KMNIST.source.read_blocks(paths, "test"))
    with pytest.raises(DatasetError, match="another data set: kmnist"):
        next(FASHION_MNIST.source.read_blocks(paths, "test"))
