"""hep: the experiment tool for holomorphic equilibrium propagation."""

from importlib.metadata import version

__version__ = version("hepcli")
