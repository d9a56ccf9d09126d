"""Preparing a data set: download it or take local archives, check them, write array_record."""

import contextlib
import errno
import http.client
import io
import re
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hepcli.data import _folders
from hepcli.data._builder import OfficialFile, make_builder, official_archives
from hepcli.data._bundled import bundled_path
from hepcli.data._cache import ensure_cached
from hepcli.data._interrupted import clean_start
from hepcli.data._locate import locate_archives
from hepcli.data._own import import_own
from hepcli.data._registry import find_spec
from hepcli.data._spec import Archives, Bundled, DatasetSpec, Imported, InMemory, OnProgress
from hepcli.errors import DatasetError
from hepcli.files import file_digest
from hepcli.settings import DATASETS

_REACH_TIMEOUT_S = 20.0


def prepare(name: str, data_dir: Path | None, report: OnProgress) -> Path:
    """Download a data set from its official addresses and prepare it.

    Args:
        name: a key of DATASETS.
        data_dir: where data sets are kept; None for the default folder.
        report: receives progress, a line at a time.

    Returns:
        Where the prepared data set lies.

    Raises:
        DatasetError: unknown name, no network, wrong checksum, or a folder that cannot be
            written. Nothing that looks prepared is left then.
    """
    spec = find_spec(name, data_dir)
    if isinstance(spec.source, InMemory):
        raise _own_code_error(name)
    if isinstance(spec.source, Imported):
        report(f"{name} was imported already; there is nothing to prepare.")
        return spec.source.folder
    if not isinstance(spec.source, Archives):
        report(f"{name} ships with hep; there is nothing to prepare.")
        return bundled_path(spec.source)
    folder = _folders.resolve_data_dir(data_dir)
    if _is_done(spec, folder, report):
        return _folders.prepared_folder(spec, folder)
    _folders.require_writable(folder)
    official = official_archives(spec.source)
    downloads = folder / "downloads"
    size = sum(file.size for file in official.values())
    downloaded = _already_downloaded(downloads / name, len(official))
    if not downloaded:
        _require_reachable(spec, folder, next(iter(official.values())).url)
    report(f"Downloading {name} ({size / 2**20:.1f} MiB) to {downloads}")
    builder = make_builder(
        spec, folder, lambda manager: _download(spec, folder, manager, official), official, report
    )
    return _write(spec, folder, builder, downloads, report, download_bytes=0 if downloaded else size)


def import_data(name: str, source_dir: Path, data_dir: Path | None, report: OnProgress) -> Path:
    """Prepare a data set from local copies of its official archives, or make one of a user's own images.

    The content decides whether an archive is accepted; its checksum is only reported,
    since recompressing a file changes the checksum and nothing else.

    Args:
        name: a key of DATASETS; any other names a data set of the user's own.
        source_dir: folder with the archives under their official names, or their unpacked
            files (see locate_archives); of own images, see `import_own`.
        data_dir: where data sets are kept; None for the default folder.
        report: receives progress, a line at a time.

    Returns:
        Where the prepared data set lies.

    Raises:
        DatasetError: unknown name, missing or damaged archive, content of another data set,
            or a folder that cannot be written. Nothing that looks prepared is left then.
    """
    if name not in DATASETS:
        return import_own(name, source_dir.expanduser(), data_dir, report)
    spec = find_spec(name)
    if isinstance(spec.source, InMemory):
        raise _own_code_error(name)
    if isinstance(spec.source, Bundled):
        raise DatasetError(
            f"{name} ships with hep; nothing can be imported into it.",
            f"Run `hep data import {spec.source.parent} SOURCE` for the whole data set.",
        )
    assert isinstance(spec.source, Archives)  # of a known name nothing else is left
    folder = _folders.resolve_data_dir(data_dir)
    if _is_done(spec, folder, report):
        return _folders.prepared_folder(spec, folder)
    paths = locate_archives(spec, spec.source, source_dir.expanduser())
    _folders.require_writable(folder)
    report(f"Reading {name} from {source_dir}")
    builder = make_builder(spec, folder, lambda _manager: paths, report=report)
    # TFDS creates its download folder even when nothing is downloaded.
    with tempfile.TemporaryDirectory(prefix="hep-import-") as downloads:
        result = _write(spec, folder, builder, Path(downloads), report)
    for filename, official in official_archives(spec.source).items():
        report(f"{filename}: {_verdict(paths[filename], filename, official)}")
    return result


def _own_code_error(name: str) -> DatasetError:
    return DatasetError(f"{name} is provided by your own code.", "It needs no preparation; use it directly.")


def _is_done(spec: DatasetSpec, data_dir: Path, report: OnProgress) -> bool:
    done = _folders.is_prepared(spec, data_dir)
    if done:
        report(f"{spec.name} is already prepared in {_folders.prepared_folder(spec, data_dir)}")
        ensure_cached(spec, data_dir, report)  # it may have been interrupted
    return done


def _write(
    spec: DatasetSpec,
    data_dir: Path,
    builder: Any,
    downloads: Path,
    report: OnProgress,
    download_bytes: int = 0,
) -> Path:
    """Let TFDS write the data set under a temporary name and rename it when complete."""
    import tensorflow_datasets as tfds

    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    config = tfds.download.DownloadConfig(try_download_gcs=False, force_checksums_validation=True)
    try:
        # TFDS announces itself on stdout, which belongs to results.
        with (
            clean_start(spec, data_dir, report),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            _folders.require_space(spec, data_dir, download_bytes)
            builder.download_and_prepare(download_dir=downloads, download_config=config)
    except OSError as error:
        # Another process may have renamed its own copy into place in the meantime.
        if not _folders.is_prepared(spec, data_dir):
            raise _folders.write_error(data_dir, error) from error
    except RuntimeError as error:
        if not (refused := re.search(r"\bwrite\(\) failed: ([^;]+)", str(error))):  # of array_record
            raise
        raise _folders.write_error(data_dir, OSError(errno.EIO, refused[1])) from error
    ensure_cached(spec, data_dir, report)
    folder = _folders.prepared_folder(spec, data_dir)
    counts = ", ".join(f"{count:,} {split}" for split, count in spec.num_examples.items())
    report(f"Prepared {spec.name} ({counts} examples) in {folder}")
    return folder


def _already_downloaded(downloads: Path, num_files: int) -> bool:
    # TFDS writes one description beside each file it has downloaded and checked.
    return len(list(downloads.glob("*.INFO"))) >= num_files


def _require_reachable(spec: DatasetSpec, data_dir: Path, url: str) -> None:
    """Fail within seconds where there is no network: TFDS retries for minutes."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_REACH_TIMEOUT_S).close()
    except urllib.error.HTTPError as error:
        error.close()  # Somebody answered; whether the file is there shows in the download itself.
    except (OSError, http.client.HTTPException) as error:
        raise _download_error(spec, data_dir, url, error) from error


def _download(
    spec: DatasetSpec, data_dir: Path, manager: Any, official: Mapping[str, OfficialFile]
) -> Mapping[str, Path]:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    first_url = next(iter(official.values())).url
    try:
        paths = manager.download({name: file.url for name, file in official.items()})
    except (tfds.download.DownloadError, NonMatchingChecksumError) as error:
        raise _download_error(spec, data_dir, first_url, error) from error
    except OSError as error:
        if error.errno is not None:  # of the file system; those of the requests library carry none
            raise
        raise _download_error(spec, data_dir, first_url, error) from error
    return {name: Path(path) for name, path in paths.items()}


def _download_error(spec: DatasetSpec, data_dir: Path, url: str, error: Exception) -> DatasetError:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    reason = str(cause).partition("\n")[0].rstrip(" .:")
    return DatasetError(
        f"{spec.name} cannot be downloaded from {url.rsplit('/', 1)[0]}/: {reason}.",
        f"Download {_folders.official_files(spec)} in another way, then run "
        f"{_folders.import_command(spec, data_dir)}.",
    )


def _verdict(path: Path, official_name: str, official: OfficialFile) -> str:
    if path.name != official_name:
        return "sizes and labels checked; unpacked, so there is no official checksum to compare"
    if file_digest(path) == official.sha256:
        return "sizes and labels checked; checksum matches the official archive"
    return "sizes and labels checked; checksum differs from the official archive (recompressed?)"
