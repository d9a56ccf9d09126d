"""Every setting stated once: its limits, its meaning and its default; and every replaceable part by name.

Frozen records, free of JAX, that the configuration validates and all other rooms use as they are. To add a
key: its line and its documentation in the record of its table (`tables.py`, `dynamics.py`, `network.py`,
`layers.py`), and its use. To add a part: one file in the room it belongs to, and one line in `parts.py`; of
an estimator its traits in `estimators.py`, too.
"""

from hepcli.settings._graph import INPUT, OUTPUT, READOUT
from hepcli.settings._limits import STRICT, Seed
from hepcli.settings.activations import SAME, is_holomorphic, split_activation
from hepcli.settings.dynamics import (
    GradientSettings,
    HardwareSettings,
    HomeostasisSettings,
    RelaxationSettings,
)
from hepcli.settings.estimators import TRAITS, Traits, traits_of
from hepcli.settings.faults import Fault, Faults, assigned, did_you_mean, show
from hepcli.settings.layers import (
    LAYERS,
    ConvLayer,
    DenseLayer,
    KernelSettings,
    LayerSettings,
    Shape,
    layer_kind,
    pooled_size,
)
from hepcli.settings.measures import MEASURES, RESERVED, Measure
from hepcli.settings.network import NetworkSettings
from hepcli.settings.options import CHOOSERS
from hepcli.settings.orders import (
    CYCLIC,
    ORDERS,
    Edges,
    Groups,
    Layers,
    cyclic_classes,
    flow_levels,
    groups_of,
)
from hepcli.settings.parts import (
    ACTIVATIONS,
    AUGMENTATIONS,
    DATASETS,
    ESTIMATORS,
    KERNELS,
    LAYER_KINDS,
    LOSSES,
    NOT_HOLOMORPHIC,
    OPTIMIZERS,
    SCHEDULES,
    SOLVERS,
    TRACKERS,
    Option,
    Parts,
    has_own_parts,
    is_own_name,
)
from hepcli.settings.tables import (
    CheckpointSettings,
    CodeSettings,
    DataSettings,
    OptimizerSettings,
    RunSettings,
)

__all__ = [
    "ACTIVATIONS",
    "AUGMENTATIONS",
    "CHOOSERS",
    "CYCLIC",
    "DATASETS",
    "ESTIMATORS",
    "INPUT",
    "KERNELS",
    "LAYERS",
    "LAYER_KINDS",
    "LOSSES",
    "MEASURES",
    "NOT_HOLOMORPHIC",
    "OPTIMIZERS",
    "ORDERS",
    "OUTPUT",
    "READOUT",
    "RESERVED",
    "SAME",
    "SCHEDULES",
    "SOLVERS",
    "STRICT",
    "TRACKERS",
    "TRAITS",
    "CheckpointSettings",
    "CodeSettings",
    "ConvLayer",
    "DataSettings",
    "DenseLayer",
    "Edges",
    "Fault",
    "Faults",
    "GradientSettings",
    "Groups",
    "HardwareSettings",
    "HomeostasisSettings",
    "KernelSettings",
    "LayerSettings",
    "Layers",
    "Measure",
    "NetworkSettings",
    "OptimizerSettings",
    "Option",
    "Parts",
    "RelaxationSettings",
    "RunSettings",
    "Seed",
    "Shape",
    "Traits",
    "assigned",
    "cyclic_classes",
    "did_you_mean",
    "flow_levels",
    "groups_of",
    "has_own_parts",
    "is_holomorphic",
    "is_own_name",
    "layer_kind",
    "pooled_size",
    "show",
    "split_activation",
    "traits_of",
]
