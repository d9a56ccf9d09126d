"""What an interrupted preparation leaves, and what the next one does about it."""

import fcntl
import os
import shutil
from contextlib import ExitStack

import numpy as np
import pytest

from hepcli.data import import_data, load_split
from hepcli.data._interrupted import clean_start
from hepcli.errors import DatasetError


def run_import(archives, data_dir):
    lines = []
    import_data("fashion_mnist", archives.folder, data_dir, lines.append)
    return lines


@pytest.fixture
def leftovers(data_dir):
    """As a killed process leaves them: a half-written data set and half a download."""
    paths = [
        data_dir
        / "fashion_mnist"
        / "incomplete.ABC123_1.0.0"
        / "fashion_mnist-train.array_record-00000-of-00001",
        data_dir / "downloads" / "fashion_mnist" / "train.gz.tmp.0123456789abcdef" / "train.gz",
    ]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half")
    return paths


def test_leftovers_are_removed_and_it_says_what_is_redone(archives, data_dir, prepared, leftovers):
    finished = data_dir / "downloads" / "fashion_mnist" / "labels.gz"
    finished.touch()
    with pytest.raises(DatasetError, match="not prepared"):
        load_split("fashion_mnist", "train", data_dir)
    lines = run_import(archives, data_dir)
    assert any("was interrupted. Finished downloads" in line for line in lines)
    assert not any(path.parent.exists() for path in leftovers)
    assert finished.exists()
    assert os.listdir(prepared.parent) == [prepared.name]


def test_nothing_is_removed_while_another_process_writes(archives, data_dir, prepared, leftovers):
    other = os.open(data_dir / "fashion_mnist", os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_SH)
        lines = run_import(archives, data_dir)
    finally:
        os.close(other)
    assert not any("interrupted" in line for line in lines)
    assert all(path.exists() for path in leftovers)
    assert prepared.is_dir()


def test_nothing_of_the_second_of_two_writers_is_removed_once_the_first_is_done(data_dir, small_spec):
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(clean_start(small_spec, data_dir, print))
        second.enter_context(clean_start(small_spec, data_dir, print))
        written = data_dir / "fashion_mnist" / "incomplete.second"
        written.mkdir()
        first.close()
        with clean_start(small_spec, data_dir, print):
            assert written.exists()
        second.close()
        with clean_start(small_spec, data_dir, print):
            assert not written.exists()


def test_no_locks_on_the_file_system(archives, data_dir, leftovers, monkeypatch):
    def unsupported(*_args):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    run_import(archives, data_dir)
    assert all(path.exists() for path in leftovers)
    assert len(load_split("fashion_mnist", "train", data_dir).labels) == 12


def test_interrupted_caching_is_repeated_alone(archives, data_dir, prepared):
    run_import(archives, data_dir)
    (prepared / "cache" / "train-images.npy").unlink()
    leftover = prepared / "cache" / ".train-images.npy.123-0a1b2c3d.tmp"
    leftover.write_bytes(b"half")
    lines = run_import(archives, data_dir)
    assert not leftover.exists()
    assert any("Caching fashion_mnist train: 12 of 12" in line for line in lines)
    assert not any("Writing" in line for line in lines)
    loaded = load_split("fashion_mnist", "train", data_dir)
    np.testing.assert_array_equal(loaded.labels, archives.labels["train"])


def test_disk_without_enough_space(archives, data_dir, monkeypatch):
    usage = shutil.disk_usage(archives.folder)._replace(free=500)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(DatasetError, match=r"has 0\.0 GiB free; fashion_mnist needs 0\.0 GiB") as caught:
        run_import(archives, data_dir)
    assert "--data-dir" in caught.value.advice
    assert not list(data_dir.rglob("*.*"))
