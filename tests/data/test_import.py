import dataclasses
import gzip
import hashlib
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from hepcli.data import import_data, load_split
from hepcli.data._builder import OfficialFile
from hepcli.errors import DatasetError
from hepcli.settings import DATASETS


def silent(_line):
    pass


def run_import(archives, data_dir, report=silent):
    return import_data("fashion_mnist", archives.folder, data_dir, report)


def assert_nothing_prepared(data_dir):
    assert not list(data_dir.rglob("dataset_info.json"))
    assert not list(data_dir.rglob("*.array_record*"))
    with pytest.raises(DatasetError, match="not prepared"):
        load_split("fashion_mnist", "train", data_dir)


def test_import_then_load_gives_the_exact_bytes(archives, data_dir, prepared, capfd):
    lines = []
    assert run_import(archives, data_dir, lines.append) == prepared
    for split in ("train", "test"):
        loaded = load_split("fashion_mnist", split, data_dir)
        assert loaded.images.dtype == np.uint8
        assert loaded.labels.dtype == np.int32
        assert loaded.num_classes == 10
        np.testing.assert_array_equal(loaded.images, archives.images[split][..., np.newaxis])
        np.testing.assert_array_equal(loaded.labels, archives.labels[split])
    assert capfd.readouterr().out == ""
    assert sum("checksum differs from the official archive (recompressed?)" in line for line in lines) == 4
    assert {path.name for path in data_dir.iterdir()} == {"fashion_mnist"}


def test_official_checksum_is_recognised(archives, data_dir, monkeypatch):
    official = {
        path.name: OfficialFile("", path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in archives.folder.iterdir()
    }
    monkeypatch.setattr("hepcli.data._prepare.official_archives", lambda _source: official)
    lines = []
    run_import(archives, data_dir, lines.append)
    assert sum("checksum matches the official archive" in line for line in lines) == 4


def test_unpacked_files_are_accepted(archives, data_dir):
    for path in list(archives.folder.iterdir()):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    lines = []
    run_import(archives, data_dir, lines.append)
    assert sum("sizes and labels checked; unpacked" in line for line in lines) == 4
    loaded = load_split("fashion_mnist", "test", data_dir)
    np.testing.assert_array_equal(loaded.labels, archives.labels["test"])


def test_importing_twice_is_harmless(archives, data_dir, prepared):
    run_import(archives, data_dir)
    before = {path: path.stat().st_mtime_ns for path in prepared.rglob("*")}
    lines = []
    assert run_import(archives, data_dir, lines.append) == prepared
    assert any("already prepared" in line for line in lines)
    assert {path: path.stat().st_mtime_ns for path in prepared.rglob("*")} == before


def test_label_out_of_range(archives, data_dir):
    archives.labels["test"][3] = 10
    archives.write("test", "labels", archives.labels["test"])
    with pytest.raises(DatasetError, match="label 10 of test example 3 is outside 0 … 9"):
        run_import(archives, data_dir)
    assert_nothing_prepared(data_dir)


def test_images_and_labels_differ_in_number(archives, data_dir):
    archives.write("train", "labels", archives.labels["train"][:-1])
    with pytest.raises(DatasetError, match=r"12 images, but .* 11 labels"):
        run_import(archives, data_dir)
    assert_nothing_prepared(data_dir)


def test_wrong_number_of_examples(archives, data_dir):
    archives.write("test", "labels", archives.labels["test"][:-1])
    archives.write("test", "images", archives.images["test"][:-1])
    with pytest.raises(DatasetError, match="test split has 4 examples, not 5"):
        run_import(archives, data_dir)
    assert_nothing_prepared(data_dir)


def test_wrong_image_size(archives, data_dir):
    archives.write("train", "images", archives.images["train"][:, :, :-1])
    with pytest.raises(DatasetError, match="images are 4×4×1, not 4×5×1"):
        run_import(archives, data_dir)
    assert_nothing_prepared(data_dir)


def test_wrong_magic_number(archives, data_dir):
    archives.write("train", "images", archives.images["train"], magic=0x1234)
    with pytest.raises(DatasetError, match="magic number is 0x00001234"):
        run_import(archives, data_dir)
    assert_nothing_prepared(data_dir)


def test_truncated_archive(archives, data_dir):
    path = archives.path("test", "images")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DatasetError, match=r"t10k-images-idx3-ubyte\.gz is a damaged gzip file"):
        run_import(archives, data_dir)
    assert_nothing_prepared(data_dir)


def test_all_missing_files_are_named_at_once(archives, data_dir):
    archives.path("train", "images").unlink()
    archives.path("test", "labels").unlink()
    with pytest.raises(DatasetError) as caught:
        run_import(archives, data_dir)
    assert "lacks train-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz" in caught.value.what
    assert not data_dir.exists()


def test_source_is_not_a_folder(archives, data_dir):
    with pytest.raises(DatasetError, match="is not a folder"):
        import_data("fashion_mnist", archives.path("train", "images"), data_dir, silent)


def test_bundled_data_set_cannot_be_imported(archives, data_dir):
    with pytest.raises(DatasetError, match="hep data import fashion_mnist SOURCE"):
        import_data("fashion_mnist_mini", archives.folder, data_dir, silent)


def test_unwritable_data_folder(archives, tmp_path):
    blocker = tmp_path / "file"
    blocker.touch()
    with pytest.raises(DatasetError, match="cannot be written") as caught:
        run_import(archives, blocker / "data")
    assert "--data-dir" in caught.value.advice


def test_full_disk_leaves_nothing(archives, data_dir, monkeypatch):
    import tensorflow_datasets as tfds

    def no_space(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tfds.core.DatasetInfo, "write_to_directory", no_space)
    with pytest.raises(DatasetError, match="No space left on device"):
        run_import(archives, data_dir)
    assert_nothing_prepared(data_dir)


def with_reader(monkeypatch, read_blocks):
    """Let fashion_mnist read its archives through another function."""
    spec = DATASETS["fashion_mnist"]
    source = dataclasses.replace(spec.source, read_blocks=read_blocks)
    monkeypatch.setitem(DATASETS, "fashion_mnist", dataclasses.replace(spec, source=source))


def test_interruption_leaves_nothing_and_can_be_repeated(archives, data_dir, monkeypatch):
    read_blocks = DATASETS["fashion_mnist"].source.read_blocks

    def interrupted(paths, split):
        yield from read_blocks(paths, split)
        if split == "test":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        with_reader(patched, interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_import(archives, data_dir)
    assert_nothing_prepared(data_dir)
    run_import(archives, data_dir)
    assert len(load_split("fashion_mnist", "train", data_dir).labels) == 12


def test_another_process_finishing_first(archives, data_dir, prepared, monkeypatch):
    spec = DATASETS["fashion_mnist"]

    def overtaken(paths, split):
        if split == "train":
            with monkeypatch.context() as inner:
                inner.setitem(DATASETS, "fashion_mnist", spec)
                run_import(archives, data_dir)
        yield from spec.source.read_blocks(paths, split)

    with_reader(monkeypatch, overtaken)
    assert run_import(archives, data_dir) == prepared
    assert os.listdir(prepared.parent) == [prepared.name]
    np.testing.assert_array_equal(
        load_split("fashion_mnist", "train", data_dir).labels, archives.labels["train"]
    )


KILLED = """
import dataclasses, os, sys
from pathlib import Path
from hepcli.settings import DATASETS
from hepcli.data import import_data

spec = DATASETS["fashion_mnist"]
def killed(paths, split):
    yield from spec.source.read_blocks(paths, split)
    if split == "test":
        os.kill(os.getpid(), 9)
source = dataclasses.replace(spec.source, read_blocks=killed)
DATASETS["fashion_mnist"] = dataclasses.replace(
    spec, image_shape=(4, 5, 1), num_examples={"train": 12, "test": 5}, source=source
)
import_data("fashion_mnist", Path(sys.argv[1]), Path(sys.argv[2]), print)
"""


@pytest.mark.slow
def test_killed_preparation_does_not_look_prepared(archives, data_dir):
    command = [sys.executable, "-c", KILLED, str(archives.folder), str(data_dir)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -9
    with pytest.raises(DatasetError, match="not prepared"):
        load_split("fashion_mnist", "train", data_dir)
    run_import(archives, data_dir)
    assert len(load_split("fashion_mnist", "test", data_dir).labels) == 5


def test_a_removed_folder_can_be_prepared_with_other_content(archives, data_dir, prepared):
    run_import(archives, data_dir)
    load_split("fashion_mnist", "test", data_dir)
    shutil.rmtree(prepared)
    archives.write("test", "labels", 9 - archives.labels["test"])
    run_import(archives, data_dir)
    loaded = load_split("fashion_mnist", "test", data_dir)
    np.testing.assert_array_equal(loaded.labels, 9 - archives.labels["test"])
