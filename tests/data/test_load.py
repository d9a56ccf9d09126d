import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hepcli.data import _cache, default_data_dir, import_data, list_datasets, load_split
from hepcli.errors import DatasetError
from hepcli.settings import DATASETS


@pytest.fixture
def imported(archives, data_dir):
    import_data("fashion_mnist", archives.folder, data_dir, lambda _line: None)
    return archives


def forbid_decoding(monkeypatch):
    def fail(*_args):
        raise AssertionError("the array_record files were read")

    monkeypatch.setattr(_cache, "_prepared_blocks", fail)


def assert_train_is_exact(imported, data_dir):
    loaded = load_split("fashion_mnist", "train", data_dir)
    np.testing.assert_array_equal(loaded.images[..., 0], imported.images["train"])
    np.testing.assert_array_equal(loaded.labels, imported.labels["train"])


def test_loading_again_uses_the_cache(imported, data_dir, monkeypatch):
    load_split("fashion_mnist", "train", data_dir)
    forbid_decoding(monkeypatch)
    assert isinstance(load_split("fashion_mnist", "train", data_dir).images, np.memmap)
    assert_train_is_exact(imported, data_dir)


def test_loaded_arrays_are_read_only(imported, data_dir):
    for loaded in (load_split("fashion_mnist", "train", data_dir), load_split("fashion_mnist_mini", "test")):
        assert not loaded.images.flags.writeable
        assert not loaded.labels.flags.writeable


def truncate(path: Path):
    os.truncate(path, path.stat().st_size - 1)


def append(path: Path):
    with path.open("ab") as file:
        file.write(b"\0")


def empty(path: Path):
    os.truncate(path, 0)


def spoil_header(path: Path):
    with path.open("r+b") as file:
        file.write(b"\xff" * 64)


def other_shape(path: Path):
    np.save(path, np.zeros((3, 2), np.uint8))


def other_dtype(path: Path):
    np.save(path, np.load(path).astype(np.int64))


def other_content(path: Path):
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([byte ^ 1]))


def damage_header(old: bytes, new: bytes):
    def damage(path: Path):
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new, 1))

    return damage


DAMAGES = (truncate, append, empty, spoil_header, other_shape, other_dtype, other_content, Path.unlink)
HEADERS = {  # what NumPy raises of them has no common ancestor
    "TokenError": (b"{'descr'", b"(((((((("),
    "TypeError": (b"'shape'", b"{[5]:1}"),
    "OverflowError": (b"(12, ", b"(9" + b"9" * 30 + b", "),
}


def impossible_labels(path: Path):
    array = np.load(path)
    np.save(path, np.full_like(array, 200))


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (damage, kind)
        for damage in (
            truncate,
            append,
            empty,
            spoil_header,
            other_shape,
            other_dtype,
            Path.unlink,
            other_content,
        )
        for kind in ("images", "labels")
    ]
    + [(impossible_labels, "labels")]
    + [(damage_header(*change), "images") for change in HEADERS.values()],
)
def test_damaged_cache_is_rebuilt(imported, data_dir, prepared, damage, kind):
    damage(prepared / "cache" / f"train-{kind}.npy")
    assert_train_is_exact(imported, data_dir)
    assert {path.name for path in (prepared / "cache").iterdir()} == {
        f"{split}{rest}" for split in ("train", "test") for rest in ("-images.npy", "-labels.npy", ".sha256")
    }


def test_digests_are_compared_but_for_images_without_number(imported, data_dir, prepared, monkeypatch):
    """And they are what sha256sum writes."""
    cache = prepared / "cache"
    images, labels = (cache / f"train-{kind}.npy" for kind in ("images", "labels"))
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in (images, labels)]
    assert (cache / "train.sha256").read_text() == "".join(lines)
    monkeypatch.setattr(_cache, "_VERIFIED_BYTES", 0)
    other_content(images)
    assert (
        load_split("fashion_mnist", "train", data_dir).images[-1, -1, -1, -1]
        != imported.images["train"][-1, -1, -1]
    )
    other_content(labels)
    assert_train_is_exact(imported, data_dir)


def test_interrupted_cache_write_leaves_no_file(imported, data_dir, prepared, monkeypatch):
    for path in (prepared / "cache").iterdir():
        path.unlink()
    blocks = _cache._prepared_blocks

    def interrupted(*args):
        yield next(blocks(*args))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(_cache, "_prepared_blocks", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load_split("fashion_mnist", "train", data_dir)
    assert not list((prepared / "cache").iterdir())
    assert_train_is_exact(imported, data_dir)


def test_cache_in_several_blocks(imported, data_dir, prepared, monkeypatch):
    (prepared / "cache" / "train-images.npy").unlink()
    monkeypatch.setattr(_cache, "_BLOCK_EXAMPLES", 5)
    assert_train_is_exact(imported, data_dir)


def test_unwritable_cache_falls_back_to_memory(imported, data_dir, prepared):
    for path in (prepared / "cache").iterdir():
        path.unlink()
    (prepared / "cache").rmdir()
    (prepared / "cache").touch()
    assert_train_is_exact(imported, data_dir)
    loaded = load_split("fashion_mnist", "train", data_dir)
    assert not loaded.images.flags.writeable
    assert "cannot be written" in loaded.notice
    assert "the train split of fashion_mnist" in loaded.notice


@pytest.mark.parametrize("says", ["Permission denied", "Input/output error"])
def test_files_that_the_system_refuses_are_not_damaged(imported, data_dir, prepared, monkeypatch, says):
    (prepared / "cache" / "train-images.npy").unlink()
    if says == "Input/output error":

        def failing(*_args):
            raise RuntimeError("read() failed: Input/output error; reading x; at byte 0")

        monkeypatch.setattr(_cache, "make_builder", failing)
    else:
        records = prepared / "fashion_mnist-train.array_record-00000-of-00001"
        empty(records)  # what array_record sees of a file that it may not open
        real = Path.open

        def refusing(path, *args, **kwargs):
            if path == records:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *args, **kwargs)

        monkeypatch.setattr(Path, "open", refusing)
    with pytest.raises(DatasetError, match=rf"cannot be read: .*{says}") as caught:
        load_split("fashion_mnist", "train", data_dir)
    assert "Remove" not in caught.value.advice


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: os.truncate(path, path.stat().st_size // 2),
        lambda path: path.write_bytes(b"\xff" * path.stat().st_size),
        Path.unlink,
        empty,
    ],
    ids=["truncated", "overwritten", "removed", "empty"],
)
def test_damaged_records_are_an_error(imported, data_dir, prepared, damage):
    (prepared / "cache" / "train-images.npy").unlink()
    damage(prepared / "fashion_mnist-train.array_record-00000-of-00001")
    with pytest.raises(DatasetError, match="are damaged") as caught:
        load_split("fashion_mnist", "train", data_dir)
    assert str(prepared) in caught.value.what
    assert "hep data prepare fashion_mnist" in caught.value.advice


@pytest.mark.parametrize("content", ["{", "{}", ""])
def test_damaged_description_is_an_error(imported, data_dir, prepared, content):
    (prepared / "cache" / "train-images.npy").unlink()
    (prepared / "dataset_info.json").write_text(content)
    with pytest.raises(DatasetError, match="are damaged"):
        load_split("fashion_mnist", "train", data_dir)


def test_missing_data_set_names_both_commands(data_dir, monkeypatch):
    with pytest.raises(DatasetError) as caught:
        load_split("fashion_mnist", "train", data_dir)
    assert f"`hep data prepare fashion_mnist --data-dir {data_dir}`" in caught.value.advice
    assert f"`hep data import fashion_mnist SOURCE --data-dir {data_dir}`" in caught.value.advice
    monkeypatch.setenv("HEP_DATA_DIR", str(data_dir))
    with pytest.raises(DatasetError) as caught:
        load_split("fashion_mnist", "train")
    assert "`hep data prepare fashion_mnist`" in caught.value.advice
    assert "--data-dir" not in caught.value.advice


def test_unknown_name_gets_the_nearest_one():
    with pytest.raises(DatasetError, match="'fasion_mnist'") as caught:
        load_split("fasion_mnist", "train")
    assert "Did you mean fashion_mnist?" in caught.value.advice


def test_list(imported, data_dir, prepared, tmp_path):
    by_name = {info.name: info for info in list_datasets(data_dir)}
    assert list(by_name) == list(DATASETS)
    assert by_name["fashion_mnist"].state == "prepared"
    assert by_name["fashion_mnist"].location == prepared
    assert by_name["fashion_mnist_mini"].state == "bundled"
    elsewhere = {info.name: info for info in list_datasets(tmp_path / "elsewhere")}
    assert elsewhere["fashion_mnist"].state == "missing"
    assert elsewhere["fashion_mnist"].location is None


def test_default_data_dir(monkeypatch, tmp_path):
    monkeypatch.delenv("HEP_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert default_data_dir() == tmp_path / ".local" / "share" / "hep"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert default_data_dir() == tmp_path / "xdg" / "hep"
    monkeypatch.setenv("HEP_DATA_DIR", "~/chosen")
    assert default_data_dir() == tmp_path / "chosen"


def test_importing_the_room_loads_no_heavy_library():
    code = (
        "import sys, hepcli.data, hepcli.experiments.data, hepcli.cli.data;"
        "print([name for name in ('jax', 'tensorflow_datasets', 'tensorflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
