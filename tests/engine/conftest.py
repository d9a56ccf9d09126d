"""Engine tests run in float64, so that laws hold to many digits."""

import jax
import pytest


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        yield
