"""hep: the experiment tool for holomorphic equilibrium propagation, as a library.

These functions do what the commands do. They print nothing, raise a `HepError` if something is wrong (its
kinds, such as `ConfigError`, are in `hepcli.errors`; a ValueError if an array has another shape or type),
and issue a `HepWarning` for anything a command would print in addition to its result. JAX is loaded on first
use.

- `load_run` opens a saved run, `init_model` an untrained network: configuration, network, parameters, and
  `states(images)`, the free phase.
- `estimate` gives error signals and gradients by any estimator, `evaluate` loss and accuracy, `measure` how
  far the error signal deviates from the gradient, and why.
- `train` trains, as `hep train` does.
- `register_activation`, `register_loss`, `register_estimator`, `register_solver`, `register_layer_kind`,
  `register_optimizer`, `register_dataset`, `register_measure`, `register_tracker` add your own components,
  ideally in a file passed as `hep … --code FILE.py` or `code=`; a run keeps a copy of it.
"""

TYPE_CHECKING = False  # typing's own would be imported before `hep` heeds Ctrl-C
if TYPE_CHECKING:
    from hepcli.api import (
        HepWarning,
        Model,
        Run,
        States,
        estimate,
        evaluate,
        init_model,
        load_run,
        measure,
        register_activation,
        register_dataset,
        register_estimator,
        register_layer_kind,
        register_loss,
        register_measure,
        register_optimizer,
        register_solver,
        register_tracker,
        train,
    )
    from hepcli.errors import HepError

__all__ = [
    "HepError",
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


def __getattr__(name: str) -> object:
    """Look a name up when it is asked for: `hep` must heed Ctrl-C before it imports anything."""
    if name == "__version__":
        from importlib.metadata import version

        return version("hepcli")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module("hepcli.errors" if name == "HepError" else "hepcli.api"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
