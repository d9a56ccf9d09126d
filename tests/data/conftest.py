"""A made-up data set in the official layout of Fashion-MNIST, small enough to prepare in a moment."""

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import http.server
import struct
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from hepcli.data import DatasetSpec
from hepcli.data._builder import OfficialFile
from hepcli.settings import DATASETS

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


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args):
        pass


@contextlib.contextmanager
def running_server(folder):
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def serve(monkeypatch):
    """Return a function that serves the files of a folder where hep expects the official ones."""
    with contextlib.ExitStack() as stack:

        def serve_folder(folder) -> str:
            address = stack.enter_context(running_server(folder))
            official = {
                path.name: OfficialFile(
                    f"{address}/{path.name}",
                    path.stat().st_size,
                    hashlib.sha256(path.read_bytes()).hexdigest(),
                )
                for path in folder.iterdir()
            }
            monkeypatch.setattr("hepcli.data._prepare.official_archives", lambda _source: official)
            for name in ("NO_PROXY", "no_proxy"):
                monkeypatch.setenv(name, "127.0.0.1")
            return address

        yield serve_folder
