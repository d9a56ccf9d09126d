"""What the tests of several rooms share."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def _compile_each_program_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Most of a short run is compilation: tests, and the processes they start, share their programs."""
    import jax

    folder = str(tmp_path_factory.mktemp("compiled"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", folder)
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        yield


@pytest.fixture(autouse=True, scope="module")
def _let_go_of_programs() -> Iterator[None]:
    """Linux allows a process 65,530 mappings; the programs of all tests together need about as many."""
    import jax

    yield
    jax.clear_caches()


@pytest.fixture(autouse=True)
def _quick_compile_of_small_networks(request: pytest.FixtureRequest) -> None:
    """In the numerical rooms networks are so small that they compile longer than they run."""
    if request.path.parent.name in ("engine", "networks", "training"):
        request.getfixturevalue("quick_compile")


@pytest.fixture
def quick_compile() -> Iterator[None]:
    """For tests of many programs, each run for a few steps."""
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
