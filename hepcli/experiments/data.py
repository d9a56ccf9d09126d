"""The functions behind `hep data`: list, prepare and import data sets."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hepcli import data


def list_data(data_dir: Path | None = None) -> list[dict[str, Any]]:
    """Describe every data set.

    Args:
        data_dir: where data sets are kept; None for the default folder.

    Returns:
        One record for each data set, ready for JSON: `name`, `state` (bundled, prepared, missing, imported,
        own code or damaged), `train_examples`, `test_examples`, `num_classes` and `location` (null when
        missing or of own code).
    """
    records = [asdict(info) for info in data.list_datasets(data_dir)]
    for record in records:
        record["location"] = None if record["location"] is None else str(record["location"])
    return records


def prepare_data(name: str, data_dir: Path | None, report: Callable[[str], None]) -> Path:
    """Download and prepare a data set.

    Args:
        name: the data set.
        data_dir: where data sets are kept; None for the default folder.
        report: receives progress, a line at a time.

    Returns:
        Where the prepared data set lies.

    Raises:
        DatasetError: it cannot be downloaded or written.
    """
    return data.prepare(name, data_dir, report)


def import_data(name: str, source_dir: Path, data_dir: Path | None, report: Callable[[str], None]) -> Path:
    """Prepare a data set from local copies of its official archives, or make one of a user's own images.

    Args:
        name: the data set, or a new name.
        source_dir: folder that holds the archives; of own images an .npz file or class folders.
        data_dir: where data sets are kept; None for the default folder.
        report: receives progress, a line at a time.

    Returns:
        Where the prepared data set lies.

    Raises:
        DatasetError: archives or images are missing, damaged or do not fit, or the data folder cannot be
            written.
    """
    return data.import_data(name, source_dir, data_dir, report)
