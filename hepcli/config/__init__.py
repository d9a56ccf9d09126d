"""Configuration: typed tables, presets, and where each value came from."""

from hepcli.config.compare import config_hash, differences, flatten
from hepcli.config.load import ResolvedConfig, load_config
from hepcli.config.network import (
    INPUT,
    OUTPUT,
    READOUT,
    ActivationName,
    ConvLayer,
    DenseLayer,
    LayerConfig,
    LossName,
    NetworkConfig,
)
from hepcli.config.presets import PresetInfo, list_presets, preset_text, presets_folder
from hepcli.config.saved import dump_config, parse_config, read_config
from hepcli.config.tables import (
    CheckpointsConfig,
    Config,
    DataConfig,
    DatasetName,
    GradientConfig,
    HomeostasisConfig,
    MethodName,
    OptimizerConfig,
    OptimizerName,
    RelaxationConfig,
    RunConfig,
    ScheduleName,
    SolverName,
)

__all__ = [
    "INPUT",
    "OUTPUT",
    "READOUT",
    "ActivationName",
    "CheckpointsConfig",
    "Config",
    "ConvLayer",
    "DataConfig",
    "DatasetName",
    "DenseLayer",
    "GradientConfig",
    "HomeostasisConfig",
    "LayerConfig",
    "LossName",
    "MethodName",
    "NetworkConfig",
    "OptimizerConfig",
    "OptimizerName",
    "PresetInfo",
    "RelaxationConfig",
    "ResolvedConfig",
    "RunConfig",
    "ScheduleName",
    "SolverName",
    "config_hash",
    "differences",
    "dump_config",
    "flatten",
    "list_presets",
    "load_config",
    "parse_config",
    "preset_text",
    "presets_folder",
    "read_config",
]
