"""Compiled programs are kept where that is possible."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from hepcli.experiments.programs import keep_programs, make_room


@pytest.fixture
def folder(monkeypatch):
    """Reads where JAX keeps programs, which is nowhere at first."""
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    jax.config.update("jax_compilation_cache_dir", None)
    yield lambda: jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", before)


def test_in_the_cache_folder_of_the_user(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    keep_programs()
    assert Path(folder()).parent == tmp_path / "hep"


def test_not_at_all_without_a_home(folder, monkeypatch):
    def homeless(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    keep_programs()
    assert folder() is None


@pytest.mark.skipif(not Path("/proc/sys/vm/max_map_count").exists(), reason="a limit of Linux")
@pytest.mark.parametrize(("allowed", "kept"), [(1.0, 1), (0.0, 0)])
def test_they_are_let_go_of_before_the_system_allows_no_more(monkeypatch, allowed, kept):
    double = jax.jit(lambda x: 2 * x)
    double(jnp.ones(3))
    monkeypatch.setattr("hepcli.experiments.programs._MOST_MAPPINGS", allowed)
    make_room()
    assert double._cache_size() == kept
