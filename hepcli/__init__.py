"""hep: the experiment tool for holomorphic equilibrium propagation, as a library.

What the commands do is what these functions do. They print nothing, raise `HepError` where something is
wrong, and warn (`HepWarning`) of what a command would say beside its result. JAX is loaded at first use.

- `load_run` opens a saved run, `init_model` an untrained network: configuration, network, parameters, and
  `states(images)`, the free phase.
- `estimate` gives error signals and gradients by any estimator, `evaluate` loss and accuracy, `measure` how
  far the signal is from the gradient, and why.
- `train` trains, as `hep train` does.
- `register_activation`, `register_loss`, `register_estimator`, `register_solver`, `register_layer_kind`,
  `register_optimizer`, `register_dataset`, `register_measure` add parts of your own; best in a file that
  `hep … --code FILE.py` or `code=` names, of which a run keeps a copy.
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
