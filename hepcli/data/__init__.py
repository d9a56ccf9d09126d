"""Data sets as arrays: prepare once, then load, in an order fixed by seed and epoch."""

from hepcli.data._arrays import OwnDataset
from hepcli.data._folders import default_data_dir
from hepcli.data._load import DatasetInfo, fingerprint, list_datasets, load_split
from hepcli.data._npz import ARCHIVE_ERRORS, HEADER_ERRORS
from hepcli.data._order import epoch_order
from hepcli.data._prepare import import_data, prepare
from hepcli.data._registry import find_spec
from hepcli.data._spec import SPLIT_NAMES, DatasetSpec, OnProgress, Split, SplitName, silent
from hepcli.data._validation import held_out

__all__ = [
    "ARCHIVE_ERRORS",
    "HEADER_ERRORS",
    "SPLIT_NAMES",
    "DatasetInfo",
    "DatasetSpec",
    "OnProgress",
    "OwnDataset",
    "Split",
    "SplitName",
    "default_data_dir",
    "epoch_order",
    "find_spec",
    "fingerprint",
    "held_out",
    "import_data",
    "list_datasets",
    "load_split",
    "prepare",
    "silent",
]
