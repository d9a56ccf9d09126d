"""Where data sets lie on disk: DATA_DIR/NAME/VERSION, as tensorflow-datasets lays it out."""

import math
import os
import shlex
import shutil
from pathlib import Path

from hepcli.data._spec import SPLIT_NAMES, Archives, DatasetSpec
from hepcli.errors import DatasetError
from hepcli.files import check_writable, write_failure

VERSION = "1.0.0"  # of what the builder writes; a change makes prepared folders of old versions invisible


def default_data_dir() -> Path:
    """Return $HEP_DATA_DIR, or the folder `hep` in the user's XDG data folder.

    Raises:
        DatasetError: there is no home folder to look in.
    """
    try:
        return _default_data_dir()
    except RuntimeError as error:
        raise DatasetError(
            f"The data folder cannot be found: {error}",
            "Set HEP_DATA_DIR to a folder, or give --data-dir DIR.",
        ) from error


def _default_data_dir() -> Path:
    if chosen := os.environ.get("HEP_DATA_DIR"):
        return Path(chosen).expanduser()
    xdg = Path(os.environ.get("XDG_DATA_HOME", ""))
    # The XDG specification tells programs to ignore relative paths (and the empty one).
    return (xdg if xdg.is_absolute() else Path.home() / ".local" / "share") / "hep"


def resolve_data_dir(data_dir: Path | None) -> Path:
    """Return the folder a user chose, absolute, or the default one."""
    return (data_dir.expanduser() if data_dir is not None else default_data_dir()).absolute()


def prepared_folder(spec: DatasetSpec, data_dir: Path) -> Path:
    """Return the folder a data set is prepared in, whether it exists or not."""
    return data_dir / spec.name / VERSION


def is_prepared(spec: DatasetSpec, data_dir: Path) -> bool:
    """Say whether a data set was prepared completely.

    The folder is renamed into place once everything is written, the description last.
    """
    return (prepared_folder(spec, data_dir) / "dataset_info.json").is_file()


def require_writable(data_dir: Path) -> None:
    """Create the data folder and try to write into it.

    Raises:
        DatasetError: it cannot be created or written.
    """
    try:
        check_writable(data_dir)
    except OSError as error:
        raise write_error(data_dir, error) from error


def require_space(spec: DatasetSpec, data_dir: Path, download_bytes: int) -> None:
    """Fail at once where a data set could not be written to its end.

    Raises:
        DatasetError: the disk has too little space for download_bytes, the prepared files and
            their cache.
    """
    image_bytes = sum(math.prod(spec.images_shape(split)) for split in SPLIT_NAMES)
    needed = download_bytes + 2 * image_bytes
    free = shutil.disk_usage(data_dir).free
    if free < needed:
        raise DatasetError(
            f"The data folder {data_dir} has {free / 2**30:.1f} GiB free; {spec.name} needs "
            f"{needed / 2**30:.1f} GiB.",
            "Free disk space, or choose another folder with --data-dir DIR or the environment variable "
            "HEP_DATA_DIR.",
        )


def write_error(data_dir: Path, error: OSError) -> DatasetError:
    """Return the error for a data folder that cannot be written."""
    return DatasetError(
        f"The data folder {data_dir} cannot be written to: {write_failure(data_dir, error)}.",
        "Choose another one with --data-dir DIR or the environment variable HEP_DATA_DIR.",
    )


def missing_error(spec: DatasetSpec, data_dir: Path) -> DatasetError:
    """Return the error for a data set that is not prepared in data_dir."""
    return DatasetError(
        f"The data set {spec.name!r} is not prepared in {data_dir}.",
        f"Run {prepare_command(spec, data_dir)} to download it, or "
        f"{import_command(spec, data_dir)} to read {official_files(spec)} from a folder.",
    )


def prepare_command(spec: DatasetSpec, data_dir: Path) -> str:
    """Return the command that downloads a data set into data_dir, for a message."""
    return f"`hep data prepare {spec.name}{_option(data_dir)}`"


def import_command(spec: DatasetSpec, data_dir: Path) -> str:
    """Return the command that imports a data set into data_dir, for a message."""
    return f"`hep data import {spec.name} SOURCE{_option(data_dir)}`"


def _option(data_dir: Path) -> str:
    try:
        is_default = data_dir == resolve_data_dir(None)
    except DatasetError:  # no home, so no default either
        is_default = False
    return "" if is_default else f" --data-dir {shlex.quote(str(data_dir))}"


def official_files(spec: DatasetSpec) -> str:
    """Return the official file names of a data set, for a message."""
    return ", ".join(spec.source.filenames) if isinstance(spec.source, Archives) else "nothing"
