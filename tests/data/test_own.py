"""Data sets of a user's own images, and the official ones in MATLAB files."""

import dataclasses
import io
import json
import os
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from hepcli.config import load_config
from hepcli.data import _images, find_spec, import_data, list_datasets, load_split
from hepcli.errors import DatasetError
from hepcli.experiments.task import Task
from hepcli.settings import DATASETS

RNG = np.random.default_rng(0)
LABELS = np.repeat([0, 1, 2], [12, 18, 30])
IMAGES = RNG.integers(0, 256, (60, 5, 4), dtype=np.uint8)


def imported(name, source, data_dir):
    lines = []
    import_data(name, source, data_dir, lines.append)
    return lines


@pytest.mark.parametrize(
    "names", ["train_images train_labels test_images test_labels", "x_train y_train x_test y_test"]
)
def test_arrays_come_out_as_they_went_in(tmp_path, data_dir, names):
    arrays = (IMAGES, LABELS[:, None], IMAGES[:7], LABELS[:7])
    np.savez(tmp_path / "a.npz", **dict(zip(names.split(), arrays, strict=True)))
    imported("mine", tmp_path / "a.npz", data_dir)
    train, test = (load_split("mine", split, data_dir) for split in ("train", "test"))
    np.testing.assert_array_equal(train.images[..., 0], IMAGES)
    np.testing.assert_array_equal(test.labels, LABELS[:7])
    assert (train.num_classes, train.labels.dtype) == (3, np.int32)
    info = {one.name: one for one in list_datasets(data_dir)}["mine"]
    assert (info.state, info.train_examples, info.num_classes) == ("imported", 60, 3)
    assert Task(load_config("quickstart", ["data.name=mine"]).config, data_dir).num_examples == 60


def test_without_a_test_split_a_sixth_of_each_class_becomes_it(tmp_path, data_dir):
    images = np.arange(60, dtype=np.uint8).reshape(60, 1, 1)
    np.savez(tmp_path / "a.npz", images=images, labels=LABELS)
    assert "no test split" in "".join(imported("one", tmp_path / "a.npz", data_dir))
    imported("again", tmp_path / "a.npz", data_dir)
    train, test = (load_split("one", split, data_dir) for split in ("train", "test"))
    assert np.bincount(test.labels).tolist() == [2, 3, 5]
    assert sorted([*train.images.ravel(), *test.images.ravel()]) == list(range(60))
    np.testing.assert_array_equal(load_split("again", "test", data_dir).images, test.images)


def write_folders(root, modes=("RGB",), size=(4, 5)):
    for split in ("train", "test"):
        for label, name in enumerate(("ant", "bee")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(3):
                mode = modes[number % len(modes)]
                Image.new(mode, size, (50 * label, number, 7) if mode == "RGB" else 50 * label).save(
                    folder / f"{number}.png"
                )
            (folder / "._0.png").write_text("of a file manager")
    return root


def test_class_folders(tmp_path, data_dir):
    imported("insects", write_folders(tmp_path / "insects"), data_dir)
    train = load_split("insects", "train", data_dir)
    assert train.images.shape == (6, 5, 4, 3)
    assert sorted(train.images[:, 2, 3].tolist()) == [
        [50 * label, n, 7] for label in (0, 1) for n in range(3)
    ]
    assert train.images[:, 2, 3, 0].tolist() == [50 * label for label in train.labels]
    assert train.labels.tolist() != sorted(train.labels)  # or the first of them would be of one class


@pytest.mark.parametrize(("modes", "channels"), [(("L",), 1), (("L", "RGB"), 3)])
def test_grey_images_have_one_channel_where_all_are_grey(tmp_path, data_dir, modes, channels):
    imported("insects", write_folders(tmp_path / "insects", modes), data_dir)
    assert find_spec("insects", data_dir).image_shape == (5, 4, channels)


def test_numbers_as_names_of_classes_are_numbers(tmp_path, data_dir):
    lines = []
    for label in range(11):
        (tmp_path / "digits" / str(label)).mkdir(parents=True)
        for number in range(3):
            Image.new("L", (4, 5), 20 * label + number).save(tmp_path / f"digits/{label}/{number}.png")
    import_data("digits", tmp_path / "digits", data_dir, lines.append)
    train = load_split("digits", "train", data_dir)
    assert (train.images[:, 0, 0, 0] // 20 == train.labels).all()
    assert any("9 = 9, 10 = 10" in line for line in lines)


@pytest.mark.parametrize("what", ["val/ant/0.png", "loose.png", "train/loose.jpg"])
def test_nothing_of_a_folder_is_left_out_silently(tmp_path, data_dir, what):
    root = write_folders(tmp_path / "insects")
    if what == "loose.png":
        root = root / "train"
    file = root / what
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 5)).save(file)
    with pytest.raises(DatasetError, match=r"val besides train and test|belongs to no class"):
        imported("insects", root, data_dir)


FAULTS = {
    "also contains test_images": {"images": IMAGES, "labels": LABELS, "test_images": IMAGES},
    "also contains val_images": {
        **{f"{split}_images": IMAGES for split in ("train", "test", "val")},
        **{f"{split}_labels": LABELS for split in ("train", "test")},
    },
    "channels seem to come first": {"images": np.zeros((60, 3, 16, 24), np.uint8), "labels": LABELS},
    "60, 2, 32, 32.: the channels": {"images": np.zeros((60, 2, 32, 32), np.uint8), "labels": LABELS},
    "not uint8": {"images": IMAGES / 255, "labels": LABELS},
    "59 labels": {"images": IMAGES, "labels": LABELS[:59]},
    r"images have shape \(\)": {"images": np.uint8(3), "labels": LABELS},
    "label -1 of example 50 ": {"images": IMAGES, "labels": np.where(np.arange(60) == 50, -1, LABELS)},
    "contains pixels": {"pixels": IMAGES},
    "have shape": {"images": IMAGES[:, 0], "labels": LABELS},
    "labels are float64": {"images": IMAGES, "labels": LABELS + 0.5},
    "is not a valid class": {"images": IMAGES, "labels": LABELS - 1},
    "class 1 has no example": {"images": IMAGES, "labels": LABELS * 2},
    "only one example, which cannot be split into training and test": {
        "images": IMAGES,
        "labels": np.minimum(np.arange(60), 30),
    },
    "outside 0": {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES, "y_test": LABELS + 1},
    "test images 4×4×1": {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:, :4], "y_test": LABELS},
}


@pytest.mark.parametrize("what", FAULTS)
def test_arrays_that_do_not_fit_are_refused_and_leave_nothing(tmp_path, data_dir, what):
    np.savez(tmp_path / "a.npz", **FAULTS[what])
    with pytest.raises(DatasetError, match=what):
        imported("mine", tmp_path / "a.npz", data_dir)
    assert not list(data_dir.rglob("*.npy"))
    with pytest.raises(DatasetError, match="Unknown data set"):
        load_split("mine", "train", data_dir)


def test_files_of_another_kind_are_refused(tmp_path, data_dir):
    np.save(tmp_path / "a.npy", IMAGES)
    np.savez(tmp_path / "pickled.npz", images=np.array([{}], dtype=object), labels=LABELS)
    (tmp_path / "text.npz").write_text("images")
    for name, what in (
        ("a.npy", "not an .npz"),
        ("pickled.npz", "not an .npz"),
        ("text.npz", "not an .npz"),
        ("b", "no"),
    ):
        with pytest.raises(DatasetError, match=what):
            imported("mine", tmp_path / name, data_dir)


def test_damaged_and_unequal_images_are_named(tmp_path, data_dir):
    root = write_folders(tmp_path / "insects")
    bad = root / "train" / "bee" / "1.png"
    whole = bad.read_bytes()
    for content in (b"no image", whole[: len(whole) // 2]):
        bad.write_bytes(content)
        with pytest.raises(DatasetError, match=r"1\.png cannot be read"):
            imported("insects", root, data_dir)
    Image.new("RGB", (9, 9)).save(bad)
    with pytest.raises(DatasetError, match="9 × 9 pixels"):
        imported("insects", root, data_dir)
    bad.write_bytes(whole)
    (root / "test" / "bee" / "9.bmp").write_bytes(whole)
    with pytest.raises(DatasetError, match=r"9\.bmp is not a PNG or JPEG image"):
        imported("insects", root, data_dir)
    (root / "test" / "bee" / "9.bmp").unlink()
    (root / "train" / "wasp").mkdir()
    with pytest.raises(DatasetError, match="wasp contains no PNG or JPEG images"):
        imported("insects", root, data_dir)
    (root / "train" / "wasp").rmdir()
    (root / "test" / "wasp").mkdir()
    with pytest.raises(DatasetError, match="no such class"):
        imported("insects", root, data_dir)


def test_names_that_are_taken_are_refused(tmp_path, data_dir):
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=LABELS)
    for name in ("cifar11", "My-Data", "../up"):
        with pytest.raises(DatasetError, match="cannot be named"):
            imported(name, tmp_path / "a.npz", data_dir)
    imported("mine", tmp_path / "a.npz", data_dir)
    with pytest.raises(DatasetError, match="already"):
        imported("mine", tmp_path / "a.npz", data_dir)


def test_what_a_killed_import_left_is_removed(tmp_path, data_dir):
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=LABELS)
    left = data_dir / "mine" / ".import-killed"
    left.mkdir(parents=True)
    imported("mine", tmp_path / "a.npz", data_dir)
    assert not left.exists()


def test_what_is_damaged_after_the_import_is_not_used(tmp_path, data_dir):
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=LABELS)
    imported("mine", tmp_path / "a.npz", data_dir)
    images = data_dir / "mine" / "own" / "train-images.npy"
    content = bytearray(images.read_bytes())
    content[-1] ^= 1
    images.write_bytes(content)
    with pytest.raises(DatasetError, match="has changed since mine was imported"):
        load_split("mine", "train", data_dir)
    content[-1] ^= 1
    images.write_bytes(content)
    description = data_dir / "mine" / "own" / "own.json"
    whole = json.loads(description.read_text())
    description.write_text(json.dumps(whole | {"num_classes": 40}))
    with pytest.raises(DatasetError, match="has changed since mine was imported"):
        load_split("mine", "train", data_dir)
    for damaged in ("{", "[" * 100_000, json.dumps(whole | {"num_classes": float("inf")})):
        description.write_text(damaged)
        with pytest.raises(DatasetError, match="has changed since mine was imported"):
            find_spec("mine", data_dir)


def test_svhn_from_its_official_files(tmp_path, data_dir, monkeypatch):
    spec = dataclasses.replace(DATASETS["svhn_cropped"], num_examples={"train": 20, "test": 10})
    monkeypatch.setitem(DATASETS, "svhn_cropped", spec)
    made = {
        split: RNG.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        for split, count in spec.num_examples.items()
    }
    for split, images in made.items():
        digits = np.arange(len(images)) % 10
        content = {
            "X": images.transpose(1, 2, 3, 0),
            "y": np.where(digits, digits, 10)[:, None].astype(np.uint8),
        }
        savemat(tmp_path / f"{split}_32x32.mat", content, do_compression=True)
    imported("svhn_cropped", tmp_path, data_dir)
    test = load_split("svhn_cropped", "test", data_dir)
    np.testing.assert_array_equal(test.images, made["test"])
    assert test.labels.tolist() == list(range(10))
    file = tmp_path / "test_32x32.mat"
    whole = bytearray(file.read_bytes())
    for content in (b"x" * 500, whole[:300] + b"?" + whole[301:], whole[: len(whole) // 2]):
        file.write_bytes(content)
        with pytest.raises(DatasetError, match="not an SVHN MATLAB file"):
            imported("svhn_cropped", tmp_path, tmp_path / "elsewhere")
    savemat(file, {"X": made["test"].transpose(1, 2, 3, 0), "y": np.ones((10, 1), np.uint8)})
    crashing = bytearray(file.read_bytes())
    crashing[185] = 188  # SciPy's reader ends in a bus error
    file.write_bytes(crashing)
    with pytest.raises(DatasetError, match="not an SVHN MATLAB file"):
        imported("svhn_cropped", tmp_path, tmp_path / "elsewhere")
    savemat(file, {"X": made["test"].transpose(1, 2, 3, 0), "y": np.full((10, 1), 37, np.uint8)})
    with pytest.raises(DatasetError, match="labels other than"):
        imported("svhn_cropped", tmp_path, tmp_path / "elsewhere")


def write_pixels(root, pixels):
    for label in ("ant", "bee"):
        (root / label).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(pixels).save(root / label / f"{number}.png")
    return root


def test_sixteen_bits_and_transparency_are_refused_not_cut_off(tmp_path, data_dir):
    deep = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    with pytest.raises(DatasetError, match="8 bits per channel"):
        imported("deep", write_pixels(tmp_path / "deep", deep), data_dir)
    clear = np.full((8, 8, 4), 200, np.uint8)
    with pytest.raises(DatasetError, match="transparent"):
        imported("clear", write_pixels(tmp_path / "clear", clear), data_dir)
    clear[..., 3] = 255
    imported("opaque", write_pixels(tmp_path / "opaque", clear), data_dir)
    assert find_spec("opaque", data_dir).image_shape == (8, 8, 3)


def test_sixteen_bits_of_colour_are_refused_too(tmp_path, data_dir):
    """Pillow opens them as if they had eight."""

    def chunk(name, content):
        sum_of = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + sum_of

    rows = b"".join(b"\0" + bytes(range(8)) * 6 for _ in range(8))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
    png += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    for name in ("ant", "bee"):
        (tmp_path / "deep" / name).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "deep" / name / f"{number}.png").write_bytes(png)
    with pytest.raises(DatasetError, match="8 bits per channel"):
        imported("deep", tmp_path / "deep", data_dir)


def test_photographs_are_turned_as_their_exif_data_say(tmp_path, data_dir):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[0] = 255  # a bright line at the top
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by 90° clockwise
    for name in ("ant", "bee"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png", exif=turned)
    imported("photos", tmp_path / "photos", data_dir)
    images = load_split("photos", "train", data_dir).images
    assert (images[:, :, -1] == 255).all()
    assert (images[:, :, :-1] == 0).all()


def test_channels_that_come_first_are_refused(tmp_path, data_dir):
    images, labels = np.zeros((20, 3, 8, 8), np.uint8), np.arange(20) % 2
    np.savez(tmp_path / "first.npz", images=images, labels=labels)
    with pytest.raises(DatasetError, match="channels seem to come first") as caught:
        imported("first", tmp_path / "first.npz", data_dir)
    assert "transpose(0, 2, 3, 1)" in caught.value.advice


def test_what_may_not_be_read_is_not_called_damaged(tmp_path, data_dir, monkeypatch):
    root = write_folders(tmp_path / "insects")

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(DatasetError, match=r"cannot be read: Permission denied") as caught:
        imported("insects", root, data_dir)
    assert "Remove" not in caught.value.advice


def test_a_damaged_archive_is_refused_in_words(tmp_path, data_dir):
    np.savez_compressed(tmp_path / "whole.npz", images=IMAGES, labels=LABELS)
    whole = (tmp_path / "whole.npz").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        content = bytearray(whole)
        content[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        (tmp_path / "a.npz").write_bytes(content[: rng.integers(len(whole))])
        with pytest.raises(DatasetError):
            imported("mine", tmp_path / "a.npz", data_dir)


def test_a_damaged_description_hides_no_other_data_set(tmp_path, data_dir):
    imported("insects", write_folders(tmp_path / "insects"), data_dir)
    next(data_dir.rglob("own.json")).write_text("{")
    states = {own.name: own.state for own in list_datasets(data_dir)}
    assert states["insects"] == "damaged"
    assert states["fashion_mnist_mini"] == "bundled"


def test_arrays_larger_than_memory_are_refused_in_words(tmp_path, data_dir):
    file = tmp_path / "large.npz"
    header = io.BytesIO()
    sizes = {"descr": "|u1", "fortran_order": False, "shape": (2**40, 100, 100)}
    np.lib.format.write_array_header_1_0(header, sizes)
    with zipfile.ZipFile(file, "w") as npz:
        npz.writestr("images.npy", header.getvalue() + b"abc")
        npz.writestr("labels.npy", b"")
    with pytest.raises(DatasetError, match="do not fit into memory"):
        imported("mine", file, data_dir)


def test_folders_of_equal_numbers_have_one_order(tmp_path):
    for names in (("1", "01", "2"), ("2", "01", "1")):
        root = tmp_path / "-".join(names)
        for name in names:
            (root / name).mkdir(parents=True)
        assert _images._visible_folders(root) == ["01", "1", "2"]


def test_two_imports_of_one_name_at_once(tmp_path, data_dir, monkeypatch):
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=LABELS)
    rename = os.rename

    def overtaken(old, new):
        monkeypatch.setattr(os, "rename", rename)
        imported("mine", tmp_path / "a.npz", data_dir)
        rename(old, new)

    monkeypatch.setattr(os, "rename", overtaken)
    with pytest.raises(DatasetError, match="already contains a data set mine"):
        imported("mine", tmp_path / "a.npz", data_dir)
    assert len(load_split("mine", "train", data_dir).labels)
