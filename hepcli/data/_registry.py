"""Finding the spec of a data set.

To add one: a file with its spec, and one line in `hepcli/settings/parts.py`.
"""

from pathlib import Path

from hepcli.data._arrays import OwnDataset
from hepcli.data._folders import resolve_data_dir
from hepcli.data._own import find_own, own_names
from hepcli.data._spec import DatasetSpec
from hepcli.errors import DatasetError
from hepcli.settings import DATASETS, did_you_mean


def find_spec(name: str, data_dir: Path | None = None) -> DatasetSpec:
    """Return the spec of a data set.

    Args:
        name: a key of DATASETS, or what a user has imported.
        data_dir: where data sets are kept; None for the default folder.

    Raises:
        DatasetError: there is no such data set, or it is damaged; the message names the nearest one.
    """
    if name in DATASETS:
        spec: DatasetSpec | OwnDataset = DATASETS[name]
        return spec.spec if isinstance(spec, OwnDataset) else spec
    if (own := find_own(name, data_dir)) is not None:
        return own
    known = [*DATASETS, *own_names(data_dir)]
    hint = did_you_mean(name, known).removeprefix("; ").capitalize()
    yours = f"Run `hep data import {name} SOURCE` to create it from your own images."
    where = "Elsewhere: --data-dir DIR, or HEP_DATA_DIR=DIR."
    raise DatasetError(
        f"Unknown data set {name!r}; none of that name was imported into {resolve_data_dir(data_dir)}.",
        f"{hint} Known data sets: {', '.join(known)}. {yours} {where}".lstrip(),
    )
