"""Finding the spec of a data set.

To add one: a file with its spec, and one line in `hepcli/settings/parts.py`.
"""

from hepcli.data._arrays import OwnDataset
from hepcli.data._spec import DatasetSpec
from hepcli.errors import DatasetError
from hepcli.settings import DATASETS, did_you_mean


def find_spec(name: str) -> DatasetSpec:
    """Return the spec of a data set.

    Args:
        name: a key of DATASETS.

    Raises:
        DatasetError: there is no such data set; the message names the nearest one.
    """
    if name in DATASETS:
        spec: DatasetSpec | OwnDataset = DATASETS[name]
        return spec.spec if isinstance(spec, OwnDataset) else spec
    hint = did_you_mean(name, DATASETS).removeprefix("; ").capitalize()
    known = f"Known data sets: {', '.join(DATASETS)}."
    raise DatasetError(f"Unknown data set {name!r}.", f"{hint} {known}".lstrip())
