"""CIFAR-10 and CIFAR-100 from small archives in the layout of the official ones."""

import dataclasses
import gzip
import io
import tarfile
import zipfile
from dataclasses import dataclass

import numpy as np
import pytest

from hepcli.data import import_data, load_split, prepare
from hepcli.errors import DatasetError
from hepcli.settings import DATASETS

NUM_EXAMPLES = {"train": 15, "test": 4}
CIFAR10_FILES = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}
CIFAR100_FILES = {"train": ("train.bin",), "test": ("test.bin",)}


@dataclass
class Made:
    """A made-up data set: its examples, and its files by name in the archive."""

    name: str
    archive: str
    folder: str
    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    files: dict[str, bytes]

    def write_tar(self, folder, prefix=None, compress=gzip.compress, links=(), name=None):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for filename, content in self.files.items():
                # The official archives hold their files in no particular order, others among them.
                member = tarfile.TarInfo(f"{self.folder if prefix is None else prefix}{filename}")
                member.size = len(content)
                if filename in links:
                    member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/passwd", 0
                archive.addfile(member, io.BytesIO(content))
        folder.mkdir(exist_ok=True)
        (folder / (name or self.archive)).write_bytes(compress(buffer.getvalue()))
        return folder

    def write_unpacked(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)


def make(name, archive, folder, filenames, num_classes, num_coarse):
    generator = np.random.default_rng(0)
    made = Made(name, archive, folder, {}, {}, {"readme.html": b"<html>"})
    for split, names in reversed(filenames.items()):
        count = NUM_EXAMPLES[split]
        images = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        labels = generator.integers(0, num_classes, count, dtype=np.uint8)
        labels[0] = num_classes - 1
        coarse = generator.integers(0, 20, (count, num_coarse), dtype=np.uint8)
        planes = images.transpose(0, 3, 1, 2).reshape(count, -1)
        records = np.concatenate([coarse, labels[:, np.newaxis], planes], axis=1)
        for filename, part in zip(names, np.split(records, len(names)), strict=True):
            made.files[filename] = part.tobytes()
        made.images[split], made.labels[split] = images, labels
    return made


@pytest.fixture(params=["cifar10", "cifar100"])
def cifar(request, monkeypatch) -> Made:
    """One of the data sets with a few examples, for this test only."""
    name = request.param
    spec = dataclasses.replace(DATASETS[name], num_examples=NUM_EXAMPLES)
    monkeypatch.setitem(DATASETS, name, spec)
    if name == "cifar10":
        return make(name, "cifar-10-binary.tar.gz", "cifar-10-batches-bin/", CIFAR10_FILES, 10, num_coarse=0)
    return make(name, "cifar-100-binary.tar.gz", "cifar-100-binary/", CIFAR100_FILES, 100, num_coarse=1)


only_cifar10 = pytest.mark.parametrize("cifar", ["cifar10"], indirect=True)


def run_import(cifar, source, data_dir, report=lambda _line: None):
    return import_data(cifar.name, source, data_dir, report)


def assert_exact(cifar, data_dir):
    for split in ("train", "test"):
        loaded = load_split(cifar.name, split, data_dir)
        np.testing.assert_array_equal(loaded.images, cifar.images[split])
        np.testing.assert_array_equal(loaded.labels, cifar.labels[split])
        assert loaded.images.dtype == np.uint8
        assert loaded.labels.dtype == np.int32


def assert_refused(cifar, source, data_dir, message):
    with pytest.raises(DatasetError, match=message) as caught:
        run_import(cifar, source, data_dir)
    assert caught.value.advice
    assert not list(data_dir.rglob("dataset_info.json"))
    assert not list(data_dir.rglob("*array_record*"))
    with pytest.raises(DatasetError, match="not prepared"):
        load_split(cifar.name, "train", data_dir)


def test_official_layout_gives_the_exact_examples(cifar, tmp_path, data_dir, capfd):
    lines = []
    prepared = run_import(cifar, cifar.write_tar(tmp_path / "source"), data_dir, lines.append)
    assert prepared == data_dir / cifar.name / "1.0.0"
    assert_exact(cifar, data_dir)
    assert (
        load_split(cifar.name, "test", data_dir).num_classes == {"cifar10": 10, "cifar100": 100}[cifar.name]
    )
    assert f"Writing {cifar.name} train: 15 of 15 examples" in lines
    assert f"Caching {cifar.name} test: 4 of 4 examples" in lines
    assert any(
        line.startswith(f"{cifar.archive}: sizes and labels checked; checksum differs") for line in lines
    )
    assert capfd.readouterr().out == ""


def test_download(cifar, tmp_path, data_dir, serve):
    serve(cifar.write_tar(tmp_path / "source"))
    prepare(cifar.name, data_dir, lambda _line: None)
    assert_exact(cifar, data_dir)


@pytest.mark.parametrize(
    "write",
    [
        lambda cifar, source: cifar.write_unpacked(source),
        lambda cifar, source: cifar.write_unpacked(source / cifar.folder),
        lambda cifar, source: cifar.write_tar(source, prefix=""),
        lambda cifar, source: cifar.write_tar(source, prefix="./"),
        lambda cifar, source: cifar.write_tar(source, compress=bytes),
        lambda cifar, source: cifar.write_tar(source, compress=bytes, name=cifar.archive.removesuffix(".gz")),
    ],
    ids=["files", "folder", "no-folder", "dot-slash", "recompressed", "tar"],
)
def test_other_forms_of_the_same_files(cifar, tmp_path, data_dir, write):
    write(cifar, tmp_path / "source")
    run_import(cifar, tmp_path / "source", data_dir)
    assert_exact(cifar, data_dir)


@only_cifar10
def test_several_shards_and_blocks_keep_the_order(cifar, tmp_path, data_dir, monkeypatch):
    monkeypatch.setattr("hepcli.data._builder._SHARD_BYTES", 4 * 3072)
    monkeypatch.setattr("hepcli.data._cifar.BLOCK_EXAMPLES", 2)
    monkeypatch.setattr("hepcli.data._progress._EXAMPLES_A_LINE", 5)
    lines = []
    prepared = run_import(cifar, cifar.write_tar(tmp_path / "source"), data_dir, lines.append)
    shards = sorted(path.name for path in prepared.glob("*train*"))
    assert shards == [f"cifar10-train.array_record-0000{i}-of-00004" for i in range(4)]
    assert_exact(cifar, data_dir)
    written = [line.rpartition(": ")[2] for line in lines if line.startswith("Writing cifar10 train")]
    assert written == ["5 of 15 examples", "11 of 15 examples", "15 of 15 examples"]


@only_cifar10
def test_missing_files_of_a_half_unpacked_archive_are_named(cifar, tmp_path, data_dir):
    cifar.write_unpacked(tmp_path / "source" / cifar.folder)
    for name in ("data_batch_2.bin", "test_batch.bin"):
        (tmp_path / "source" / cifar.folder / name).unlink()
    with pytest.raises(DatasetError) as caught:
        run_import(cifar, tmp_path / "source", data_dir)
    assert f"lacks {cifar.folder}data_batch_2.bin, {cifar.folder}test_batch.bin." in caught.value.what
    assert not data_dir.exists()


def test_missing_archive_is_named(cifar, tmp_path, data_dir):
    with pytest.raises(DatasetError, match=f"lacks {cifar.archive}"):
        run_import(cifar, tmp_path, data_dir)


def test_label_out_of_range(cifar, tmp_path, data_dir):
    num_classes = DATASETS[cifar.name].num_classes
    name = "test_batch.bin" if cifar.name == "cifar10" else "test.bin"
    content = bytearray(cifar.files[name])
    record_bytes = len(content) // 4
    content[3 * record_bytes + record_bytes - 3073] = num_classes
    cifar.files[name] = bytes(content)
    message = f"label {num_classes} of test example 3 is outside 0 … {num_classes - 1}"
    assert_refused(cifar, cifar.write_tar(tmp_path / "source"), data_dir, message)


def test_truncated_records(cifar, tmp_path, data_dir):
    name = "test_batch.bin" if cifar.name == "cifar10" else "test.bin"
    cifar.files[name] = cifar.files[name][:-1]
    assert_refused(
        cifar, cifar.write_tar(tmp_path / "source"), data_dir, f"{name} is truncated or not a file of"
    )


@only_cifar10
def test_images_of_another_size(cifar, tmp_path, data_dir):
    cifar.files["data_batch_1.bin"] = bytes(10 * (1 + 16 * 16 * 3))
    message = "data_batch_1.bin is truncated or not a file of 32×32×3 images"
    assert_refused(cifar, cifar.write_tar(tmp_path / "source"), data_dir, message)


@only_cifar10
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:3073], "split has 13 examples, not 15"),
        (lambda content: content * 2, "at least"),
    ],
)
def test_wrong_number_of_examples(cifar, tmp_path, data_dir, change, message):
    cifar.files["data_batch_5.bin"] = change(cifar.files["data_batch_5.bin"])
    assert_refused(cifar, cifar.write_tar(tmp_path / "source"), data_dir, message)


def zipped(content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("other", content)
    return buffer.getvalue()


def flipped(content):
    packed = bytearray(gzip.compress(content))
    packed[-6] ^= 1  # in the checksum: nothing else tells
    return bytes(packed)


@only_cifar10
@pytest.mark.parametrize(
    ("compress", "message"),
    [
        (lambda content: gzip.compress(content)[:-20_000], "damaged"),
        (lambda content: gzip.compress(content)[:-9], "damaged"),
        (flipped, "damaged"),
        (lambda content: content[:-20_000], "damaged"),
        (lambda _content: b"<!DOCTYPE html>" * 100, "damaged or has the wrong format"),
        (lambda _content: b"", "damaged or has the wrong format"),
        (zipped, "lacks cifar-10-batches-bin/data_batch_1.bin"),
    ],
    ids=["truncated", "end-missing", "checksum", "truncated-tar", "html", "empty", "zip"],
)
def test_damaged_or_wrong_archive(cifar, tmp_path, data_dir, compress, message):
    source = cifar.write_tar(tmp_path / "source", compress=compress)
    assert_refused(cifar, source, data_dir, message)


@pytest.mark.parametrize("prefix", ["../", "/", "../../cifar-10-batches-bin/", "other/"])
@only_cifar10
def test_members_outside_the_folder_are_not_read(cifar, tmp_path, data_dir, prefix):
    source = cifar.write_tar(tmp_path / "source", prefix=prefix)
    assert_refused(cifar, source, data_dir, "lacks cifar-10-batches-bin/data_batch_1.bin")
    assert {path.name for path in tmp_path.iterdir()} == {"source", "data"}


@only_cifar10
def test_links_are_not_followed(cifar, tmp_path, data_dir):
    source = cifar.write_tar(tmp_path / "source", links=["data_batch_3.bin"])
    assert_refused(cifar, source, data_dir, "lacks cifar-10-batches-bin/data_batch_3.bin")


@only_cifar10
def test_archive_of_the_other_data_set(cifar, tmp_path, data_dir):
    source = cifar.write_tar(tmp_path / "source", name="cifar-100-binary.tar.gz")
    with pytest.raises(DatasetError, match=r"lacks cifar-100-binary/train\.bin"):
        import_data("cifar100", source, data_dir, lambda _line: None)


@only_cifar10
def test_random_damage_is_always_a_dataset_error_or_harmless(cifar, tmp_path, data_dir):
    source = cifar.write_tar(tmp_path / "source", compress=lambda content: gzip.compress(content, 1))
    whole = (source / cifar.archive).read_bytes()
    read_blocks = DATASETS["cifar10"].source.read_blocks
    generator = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for position in generator.integers(0, len(whole), 3):
            damaged[position] = generator.integers(256)
        (source / cifar.archive).write_bytes(damaged)
        try:
            blocks = list(read_blocks({cifar.archive: source / cifar.archive}, "train"))
        except DatasetError:
            continue
        np.testing.assert_array_equal(np.concatenate([images for images, _ in blocks]), cifar.images["train"])
