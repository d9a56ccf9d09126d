"""Compiling is most of the time of the networks tests."""

import jax
import pytest


@pytest.fixture(autouse=True)
def _quick_compile():
    """Networks this small compile longer than they run."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
