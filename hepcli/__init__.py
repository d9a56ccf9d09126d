"""hep: the experiment tool for holomorphic equilibrium propagation."""


def __getattr__(name: str) -> str:
    """Look `__version__` up when it is asked for: `hep` must heed Ctrl-C before it imports anything."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("hepcli")
