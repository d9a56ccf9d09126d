"""ImageNet 32 × 32 from small archives in the layout of the official ones."""

import dataclasses
import io
import warnings
import zipfile

import numpy as np
import pytest

from hepcli.data import import_data, load_split, prepare
from hepcli.errors import DatasetError
from hepcli.settings import DATASETS

NUM_EXAMPLES = {"train": 23, "test": 4}
TRAIN, VAL = "Imagenet32_train_npz", "Imagenet32_val_npz"


class Made:
    """A made-up data set: its examples, and its .npz files by folder and name."""

    def __init__(self):
        generator = np.random.default_rng(0)
        self.images, self.labels, self.files = {}, {}, {TRAIN: {}, VAL: {}}
        for split, count in NUM_EXAMPLES.items():
            self.images[split] = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
            self.labels[split] = generator.integers(0, 1000, count)
            self.labels[split][:2] = 0, 999
        for number, rows in enumerate(np.array_split(np.arange(23), 10), start=1):
            self.files[TRAIN][f"train_data_batch_{number}.npz"] = self.npz("train", rows)
        self.files[VAL]["val_data.npz"] = self.npz("test", np.arange(4))

    def arrays(self, split, rows):
        planes = self.images[split][rows].transpose(0, 3, 1, 2).reshape(len(rows), 3072)
        return {"data": planes, "labels": self.labels[split][rows] + 1, "mean": np.zeros(3072)}

    def npz(self, split, rows, save=np.savez_compressed, **changed):
        buffer = io.BytesIO()
        save(buffer, **{**self.arrays(split, rows), **changed})
        return buffer.getvalue()

    def change_val(self, **changed):
        """Replace arrays of the validation file; None removes one."""
        arrays = {**self.arrays("test", np.arange(4)), **changed}
        buffer = io.BytesIO()
        np.savez(buffer, **{name: array for name, array in arrays.items() if array is not None})
        self.files[VAL]["val_data.npz"] = buffer.getvalue()

    def write(self, folder, method=zipfile.ZIP_DEFLATED, prefix="{}/"):
        folder.mkdir(exist_ok=True)
        for name, files in self.files.items():
            with zipfile.ZipFile(folder / f"{name}.zip", "w", method) as archive:
                archive.writestr("unrelated.txt", "")
                for filename, content in sorted(files.items()):
                    archive.writestr(prefix.format(name) + filename, content)
        return folder

    def write_unpacked(self, folder, subfolder):
        for name, files in self.files.items():
            target = folder / subfolder.format(name)
            target.mkdir(parents=True, exist_ok=True)
            for filename, content in files.items():
                (target / filename).write_bytes(content)


@pytest.fixture
def made(monkeypatch) -> Made:
    spec = dataclasses.replace(DATASETS["imagenet32"], num_examples=NUM_EXAMPLES)
    monkeypatch.setitem(DATASETS, "imagenet32", spec)
    return Made()


def run_import(source, data_dir, report=lambda _line: None):
    return import_data("imagenet32", source, data_dir, report)


def assert_exact(made, data_dir):
    for split in ("train", "test"):
        loaded = load_split("imagenet32", split, data_dir)
        np.testing.assert_array_equal(loaded.images, made.images[split])
        np.testing.assert_array_equal(loaded.labels, made.labels[split])
        assert isinstance(loaded.images, np.memmap)
        assert loaded.labels.dtype == np.int32


def assert_refused(source, data_dir, message):
    with pytest.raises(DatasetError, match=message) as caught:
        run_import(source, data_dir)
    assert caught.value.advice
    assert not list(data_dir.rglob("dataset_info.json"))
    assert not list(data_dir.rglob("*array_record*"))
    with pytest.raises(DatasetError, match="not prepared"):
        load_split("imagenet32", "train", data_dir)


@pytest.mark.parametrize(
    "write",
    [
        lambda made, source: made.write(source),
        lambda made, source: made.write(source, zipfile.ZIP_STORED, prefix=""),
        lambda made, source: made.write_unpacked(source, ""),
        lambda made, source: made.write_unpacked(source, "{}"),
    ],
    ids=["zip", "stored", "files", "folders"],
)
def test_every_layout_gives_the_exact_examples(made, tmp_path, data_dir, write):
    write(made, tmp_path / "source")
    lines = []
    prepared = run_import(tmp_path / "source", data_dir, lines.append)
    assert prepared == data_dir / "imagenet32" / "1.0.0"
    assert_exact(made, data_dir)
    assert "Writing imagenet32 train: 23 of 23 examples" in lines
    assert load_split("imagenet32", "test", data_dir).num_classes == 1000


def test_download(made, tmp_path, data_dir, serve):
    serve(made.write(tmp_path / "source"))
    prepare("imagenet32", data_dir, lambda _line: None)
    assert_exact(made, data_dir)


def test_batches_of_a_file_keep_the_order(made, tmp_path, data_dir, monkeypatch):
    monkeypatch.setattr("hepcli.data._builder._SHARD_BYTES", 5 * 3072)
    monkeypatch.setattr("hepcli.data._imagenet32.BLOCK_EXAMPLES", 2)
    prepared = run_import(made.write(tmp_path / "source"), data_dir)
    assert len(list(prepared.glob("*train.array_record*"))) == 5
    assert_exact(made, data_dir)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.uint64, ">i8"])
def test_labels_of_any_integer_type(made, tmp_path, data_dir, dtype):
    made.change_val(labels=(made.labels["test"] + 1).astype(dtype))
    run_import(made.write(tmp_path / "source"), data_dir)
    assert_exact(made, data_dir)


def write_python2_header(file, array):
    shape = ", ".join(f"{length}L" for length in array.shape) + ("," if array.ndim == 1 else "")
    header = (
        f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': ({shape}), }}".ljust(117) + "\n"
    )
    file.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + array.tobytes())


def test_headers_written_by_python_2(made, tmp_path, data_dir):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as npz:
        for name, array in made.arrays("test", np.arange(4)).items():
            with npz.open(f"{name}.npy", "w") as file:
                write_python2_header(file, array)
    with warnings.catch_warnings(), pytest.warns(UserWarning, match="Python 2"):
        np.load(io.BytesIO(buffer.getvalue()))["data"]
    made.files[VAL]["val_data.npz"] = buffer.getvalue()
    run_import(made.write(tmp_path / "source"), data_dir)
    assert_exact(made, data_dir)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": np.array([1, 2, 0, 4])}, "label 0 of its example 2 is outside 1 … 1000"),
        ({"labels": np.array([1, 1001, 2, 3])}, "label 1001 of its example 1 is outside 1 … 1000"),
        ({"labels": np.array([1, 2, 3, 2**32 + 5])}, "label 4294967301 of its example 3"),
        ({"labels": np.array([1, 2, 3])}, "4 images, but 3 labels"),
        ({"labels": np.ones(4)}, "`labels` is float64 4, not a row of integers"),
        ({"labels": np.array([None] * 4)}, "not a numeric array"),
        ({"labels": np.int64(4)}, "not a numeric array"),
        ({"labels": None}, "contains no array `labels`"),
        ({"data": None}, "contains no array `data`"),
        ({"data": np.zeros((4, 768), np.uint8)}, "uint8 4×768, not bytes of 32×32×3 images"),
        ({"data": np.zeros((4, 3072), np.float32)}, "float32 4×3072, not bytes"),
        ({"data": np.zeros((4, 3072), np.uint8, order="F")}, r"in C \(row-major\) order"),
        (
            {"data": np.zeros((3, 3072), np.uint8), "labels": np.array([1, 2, 3])},
            "test split has 3 examples, not 4",
        ),
        (
            {"data": np.zeros((5, 3072), np.uint8), "labels": np.arange(1, 6)},
            "test split has at least 5 examples, not 4",
        ),
    ],
)
def test_wrong_content(made, tmp_path, data_dir, changed, message):
    made.change_val(**changed)
    assert_refused(made.write(tmp_path / "source"), data_dir, message)


def test_missing_batch(made, tmp_path, data_dir):
    del made.files[TRAIN]["train_data_batch_7.npz"]
    message = r"Imagenet32_train_npz\.zip lacks Imagenet32_train_npz/train_data_batch_7\.npz"
    assert_refused(made.write(tmp_path / "source"), data_dir, message)


def test_missing_files_are_named(made, tmp_path, data_dir):
    made.write_unpacked(tmp_path / "source", "{}")
    (tmp_path / "source" / TRAIN / "train_data_batch_7.npz").unlink()
    (tmp_path / "source" / VAL / "val_data.npz").unlink()
    message = f"lacks {TRAIN}/train_data_batch_7.npz, {VAL}.zip"
    with pytest.raises(DatasetError, match=message):
        run_import(tmp_path / "source", data_dir)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_damaged_batch(made, tmp_path, data_dir, save, damage):
    content = bytearray(made.npz("train", np.arange(2), save))
    if damage == "truncated":
        content = content[:-3000]
    else:
        content[2000] ^= 1
    made.files[TRAIN]["train_data_batch_3.npz"] = bytes(content)
    assert_refused(made.write(tmp_path / "source"), data_dir, r"zip: train_data_batch_3\.npz is damaged")
    made.write_unpacked(tmp_path / "unpacked", "")
    assert_refused(tmp_path / "unpacked", data_dir, r"unpacked/train_data_batch_3\.npz is damaged")


def test_header_that_promises_another_length(made, tmp_path, data_dir):
    data = made.arrays("test", np.arange(4))["data"]
    for rows, message in ((3, "longer than its header says"), (5, "is truncated")):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as npz:
            with npz.open("data.npy", "w") as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": (rows, 3072)}
                np.lib.format.write_array_header_1_0(file, header)
                file.write(data.tobytes())
            with npz.open("labels.npy", "w") as file:
                np.lib.format.write_array(file, np.arange(1, rows + 1))
        made.files[VAL]["val_data.npz"] = buffer.getvalue()
        assert_refused(made.write(tmp_path / "source"), data_dir, message)


@pytest.mark.parametrize("keep", [0.5, 0.999])
def test_truncated_archive(made, tmp_path, data_dir, keep):
    source = made.write(tmp_path / "source")
    path = source / f"{TRAIN}.zip"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    assert_refused(source, data_dir, r"Imagenet32_train_npz\.zip is damaged")


def test_random_damage_is_always_a_dataset_error_or_harmless(made, tmp_path):
    source = made.write(tmp_path / "source", zipfile.ZIP_STORED)
    path = source / f"{VAL}.zip"
    whole = path.read_bytes()
    read_blocks = DATASETS["imagenet32"].source.read_blocks
    generator = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(whole)
        # The ends hold the directories, where a wrong byte has the most to say.
        start = generator.choice([0, len(whole) - 800])
        for position in generator.integers(start, start + 800, 2):
            damaged[position] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            blocks = list(read_blocks({f"{VAL}.zip": path}, "test"))
        except DatasetError:
            continue
        np.testing.assert_array_equal(np.concatenate([images for images, _ in blocks]), made.images["test"])
