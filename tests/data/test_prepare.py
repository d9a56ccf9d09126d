"""Downloads, from a web server on this machine."""

import http.server
import shutil

import numpy as np
import pytest

from hepcli.data import load_split, prepare
from hepcli.data._builder import OfficialFile, official_archives
from hepcli.errors import DatasetError
from hepcli.settings import DATASETS


@pytest.fixture
def server(archives, serve):
    return serve(archives.folder)


def test_download_prepares_the_served_examples(server, archives, data_dir, prepared, capfd):
    lines = []
    assert prepare("fashion_mnist", data_dir, lines.append) == prepared
    loaded = load_split("fashion_mnist", "train", data_dir)
    np.testing.assert_array_equal(loaded.images[..., 0], archives.images["train"])
    np.testing.assert_array_equal(loaded.labels, archives.labels["train"])
    assert capfd.readouterr().out == ""
    assert "Downloading fashion_mnist" in lines[0]


def test_preparing_twice_is_harmless(server, data_dir):
    prepare("fashion_mnist", data_dir, lambda _line: None)
    lines = []
    prepare("fashion_mnist", data_dir, lines.append)
    assert len(lines) == 1
    assert "already prepared" in lines[0]


def test_wrong_checksum_is_refused(server, archives, data_dir):
    archives.write("test", "labels", 9 - archives.labels["test"])
    with pytest.raises(DatasetError, match="wrong checksum") as caught:
        prepare("fashion_mnist", data_dir, lambda _line: None)
    assert "hep data import fashion_mnist" in caught.value.advice
    # Not in the whole folder: other downloads may still be ending.
    assert not list((data_dir / "fashion_mnist").rglob("*"))


def test_missing_file_on_the_server(server, archives, data_dir):
    archives.path("train", "labels").unlink()
    with pytest.raises(DatasetError, match="404"):
        prepare("fashion_mnist", data_dir, lambda _line: None)


def test_no_network_names_address_files_and_import(archives, data_dir, monkeypatch):
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as closed:
        address = f"http://127.0.0.1:{closed.server_port}"
    official = {"train-images-idx3-ubyte.gz": OfficialFile(f"{address}/train-images-idx3-ubyte.gz", 1, "0")}
    monkeypatch.setattr("hepcli.data._prepare.official_archives", lambda _source: official)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(DatasetError, match=address) as caught:
        prepare("fashion_mnist", data_dir, lambda _line: None)
    assert f"`hep data import fashion_mnist SOURCE --data-dir {data_dir}`" in caught.value.advice
    assert "t10k-labels-idx1-ubyte.gz" in caught.value.advice


def test_bundled_needs_no_preparation(data_dir):
    lines = []
    assert prepare("fashion_mnist_mini", data_dir, lines.append).is_file()
    assert "nothing to prepare" in lines[0]
    assert not data_dir.exists()


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "fashion_mnist_mini"])
def test_official_metadata_cover_every_archive(name):
    source = DATASETS[name].source
    official = official_archives(source)
    assert tuple(official) == source.filenames
    for filename, file in official.items():
        assert file.url.startswith("http")
        assert file.url.endswith(filename)
        assert file.size > 0
        assert len(file.sha256) == 64


def test_finished_downloads_are_used_without_network(server, data_dir, prepared, monkeypatch):
    prepare("fashion_mnist", data_dir, lambda _line: None)
    shutil.rmtree(prepared)

    def unreachable(*_args):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("hepcli.data._prepare._require_reachable", unreachable)
    assert prepare("fashion_mnist", data_dir, lambda _line: None) == prepared


def test_a_disk_that_fills_up_while_records_are_written(server, data_dir, monkeypatch):
    class Builder:
        def download_and_prepare(self, **_options):
            raise RuntimeError("write() failed: No space left on device; writing x; at byte 100000")

    monkeypatch.setattr("hepcli.data._prepare.make_builder", lambda *_args: Builder())
    with pytest.raises(DatasetError, match="cannot be written to: No space left on device"):
        prepare("fashion_mnist", data_dir, lambda _line: None)
