"""What the tests of several rooms share."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _quick_compile(request: pytest.FixtureRequest) -> Iterator[None]:
    """In the numerical rooms networks are so small that they compile longer than they run."""
    if request.path.parent.name not in ("engine", "networks", "training"):
        yield
        return
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
