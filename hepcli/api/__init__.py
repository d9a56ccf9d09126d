"""The library: what `import hepcli` offers, on top of what the commands do."""

from hepcli.api._commands import evaluate, measure, train
from hepcli.api._estimate import estimate
from hepcli.api._learning_parts import register_estimator, register_solver
from hepcli.api._model import Model, Run, States
from hepcli.api._network_parts import register_activation, register_layer_kind, register_loss
from hepcli.api._open import init_model, load_run
from hepcli.api._run_parts import register_dataset, register_measure, register_optimizer, register_tracker
from hepcli.api._session import HepWarning

__all__ = [
    "HepWarning",
    "Model",
    "Run",
    "States",
    "estimate",
    "evaluate",
    "init_model",
    "load_run",
    "measure",
    "register_activation",
    "register_dataset",
    "register_estimator",
    "register_layer_kind",
    "register_loss",
    "register_measure",
    "register_optimizer",
    "register_solver",
    "register_tracker",
    "train",
]
