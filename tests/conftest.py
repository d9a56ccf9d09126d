"""What the tests of several rooms share."""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .full import ONLY_FULL

_QUICK_TO_COMPILE = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
"""XLA compiles the small programs of tests in a third of the time with these."""

_MOST_MAPPINGS = 6_000
"""Of a process of tests: it takes about 3 GB by then."""


def pytest_configure(config: pytest.Config) -> None:
    """Set XLA's flags before JAX starts, for all workers; an XLA that does not know them goes without."""
    if hasattr(config, "workerinput") or "XLA_FLAGS" in os.environ:
        return
    environment = os.environ | {"XLA_FLAGS": _QUICK_TO_COMPILE, "JAX_PLATFORMS": "cpu"}
    probe = [sys.executable, "-c", "import jax; jax.devices()"]
    if subprocess.run(probe, env=environment, capture_output=True, check=False).returncode == 0:
        os.environ["XLA_FLAGS"] = _QUICK_TO_COMPILE


def pytest_collection_finish() -> None:
    """Collect garbage seldom: a sixth of the tests' time went into looking through what tracing made."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--full` for all tests."""
    parser.addoption("--full", action="store_true", help="run the tests that tests/full.py names, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only `--full` runs, unless it is asked for by name."""
    if config.option.full or any("::" in argument for argument in config.args):
        return
    left_out = {item for item in items if item.nodeid.removeprefix("tests/").startswith(ONLY_FULL)}
    config.hook.pytest_deselected(items=[*left_out])
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True, scope="session")
def _compile_each_program_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Most of a short run is compilation: tests, and what they start, optimise little and share programs."""
    import jax

    folder = str(tmp_path_factory.mktemp("compiled"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", folder)
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # they compile longer than they run
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_disable_most_optimizations", True)
        yield


@pytest.fixture(autouse=True, scope="module")
def _let_go_of_programs() -> Iterator[None]:
    """Programs take memory, and of the 65,530 mappings that Linux allows a process; compiling takes time."""
    import jax

    yield
    if _num_mappings() > _MOST_MAPPINGS:
        jax.clear_caches()


def _num_mappings() -> int:
    maps = Path("/proc/self/maps")
    return maps.read_bytes().count(b"\n") if maps.is_file() else 0
