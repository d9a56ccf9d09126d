"""Configuration: typed tables, presets, and where each value came from."""

from hepcli.config.axes import Axis, AxisPoint, label_of, labels_of
from hepcli.config.compare import OUTSIDE_HASH, config_hash, differences, flatten, names_in, without_numbers
from hepcli.config.config import Config
from hepcli.config.extends import is_path, preset_header
from hepcli.config.load import ResolvedConfig, config_error, load_config, read_settings, try_config
from hepcli.config.presets import SWEEPS, PresetInfo, list_presets, list_sweeps, preset_text, presets_folder
from hepcli.config.rules import nudge_faults
from hepcli.config.saved import RUN_HEADER, changed_config, dump_config, kept_code, parse_config, read_config
from hepcli.config.search import VALIDATION_ERROR, SearchTable
from hepcli.config.sweep import ABSENT, FigureKind, FigureView, SweepDefinition, TableView
from hepcli.config.sweep_files import (
    SWEEP_FILE,
    NamedSweep,
    check_sweep,
    dump_sweep,
    load_sweep,
    parse_sweep,
    preset_name,
    sweep_differences,
)
from hepcli.config.toml_files import expanded, read_text
from hepcli.config.values import ERRORS, LINE_ERRORS, OF_LAST_LINE, needed_by
from hepcli.config.vary import (
    parse_search,
    parse_seeds,
    parse_shard,
    parse_vary,
    split_outside,
    take_over,
    tell_apart,
)

__all__ = [
    "ABSENT",
    "ERRORS",
    "LINE_ERRORS",
    "OF_LAST_LINE",
    "OUTSIDE_HASH",
    "RUN_HEADER",
    "SWEEPS",
    "SWEEP_FILE",
    "VALIDATION_ERROR",
    "Axis",
    "AxisPoint",
    "Config",
    "FigureKind",
    "FigureView",
    "NamedSweep",
    "PresetInfo",
    "ResolvedConfig",
    "SearchTable",
    "SweepDefinition",
    "TableView",
    "changed_config",
    "check_sweep",
    "config_error",
    "config_hash",
    "differences",
    "dump_config",
    "dump_sweep",
    "expanded",
    "flatten",
    "is_path",
    "kept_code",
    "label_of",
    "labels_of",
    "list_presets",
    "list_sweeps",
    "load_config",
    "load_sweep",
    "names_in",
    "needed_by",
    "nudge_faults",
    "parse_config",
    "parse_search",
    "parse_seeds",
    "parse_shard",
    "parse_sweep",
    "parse_vary",
    "preset_header",
    "preset_name",
    "preset_text",
    "presets_folder",
    "read_config",
    "read_settings",
    "read_text",
    "split_outside",
    "sweep_differences",
    "take_over",
    "tell_apart",
    "try_config",
    "without_numbers",
]
