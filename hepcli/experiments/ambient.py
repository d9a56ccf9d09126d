"""What of the user's environment would change numbers or break runs, set aside or refused."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

import jax

from hepcli.errors import ConfigError
from hepcli.experiments.devices import offer_cores
from hepcli.experiments.programs import keep_programs

_FIXED = {
    "jax_enable_x64": False,  # measures switch it on where they need it
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
    "jax_debug_nans": False,  # examples that are not finite are counted, not raised on
    "jax_debug_infs": False,
    "jax_disable_jit": False,
}


_PRECISION = "jax_default_matmul_precision"  # JAX's own default for float32 on GPUs is tensorfloat32
_borrowed: ContextVar[ExitStack | None] = ContextVar("borrowed", default=None)
"""Where settings end with the call, within a program of somebody else's."""


def fix_numbers(matmul_precision: str = "float32") -> None:
    """Set what decides numbers, whatever JAX_* variables or the program around say.

    Args:
        matmul_precision: as `run.matmul_precision`.
    """
    stack = _borrowed.get()
    for name, value in (*_FIXED.items(), (_PRECISION, matmul_precision)):
        if stack is None:
            jax.config.update(name, value)  # type: ignore[no-untyped-call]
        else:  # a setting of one's own `with` block would outweigh an update, and an update would stay
            stack.enter_context(getattr(jax, name.removeprefix("jax_"))(value))


def fix_ambient(devices: int = 1, matmul_precision: str = "float32") -> None:
    """Set what decides numbers, and see that there is a device.

    Args:
        devices: how many of them there should be at least, where that can be chosen.
        matmul_precision: as `run.matmul_precision`.

    Raises:
        ConfigError: JAX_PLATFORMS names a platform that this machine does not have.
    """
    fix_numbers(matmul_precision)
    offer_cores(devices)
    keep_programs()
    try:
        jax.local_devices()
    except (RuntimeError, AssertionError) as error:  # JAX asserts that there is a default platform
        reason = str(error).partition("\n")[0].rstrip(".")
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise ConfigError(
            f"JAX finds no device to compute on (JAX_PLATFORMS={asked}){reason and ': '}{reason}.",
            "Unset JAX_PLATFORMS, or run on the CPU: JAX_PLATFORMS=cpu hep …",
        ) from error


@contextmanager
def borrowed_ambient() -> Iterator[None]:
    """Within a program of somebody else's: what `fix_numbers` sets holds inside, and nowhere else."""
    with ExitStack() as stack:
        token = _borrowed.set(stack)
        try:
            fix_numbers()
            yield
        finally:
            _borrowed.reset(token)
