"""States to save, stores with some, and what damages their files."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hepcli.checkpoints import CheckpointStore

PARAMS = {
    "dense/1": {"kernel": jnp.linspace(-1, 1, 12).reshape(3, 4), "bias": jnp.zeros(4)},
    "out.a": jnp.ones(2),
}


class TrainingState(NamedTuple):
    params: Any
    opt_state: Any
    key: Any
    extras: Any


def training_state(seed: int = 0) -> TrainingState:
    optimizer = optax.chain(optax.clip(1.0), optax.adamw(1e-3))
    gradients = jax.tree.map(lambda leaf: leaf + seed + 1, PARAMS)
    updates, opt_state = optimizer.update(gradients, optimizer.init(PARAMS), PARAMS)
    values = np.random.default_rng(seed).normal(size=(5, 3))
    extras = {
        "bfloat16": jnp.asarray(values, jnp.bfloat16),
        "complex64": jnp.asarray(values * (1 - 2j), jnp.complex64),
        "float64": values,
        "fortran": np.asfortranarray(values),
        "nan": np.array([np.nan, -0.0, np.inf], np.float32),
        "bool": np.array([True, False]),
        "int64 scalar": np.array(2**40 + seed),
        "python": (3, 2.5, None, ()),
        "size zero": np.zeros((0, 3), np.float32),
    }
    return TrainingState(optax.apply_updates(PARAMS, updates), opt_state, jax.random.PRNGKey(seed), extras)


def small_state(step: int) -> dict[str, Any]:
    return {"w": np.full((4, 5), step, np.float32), "step": np.array(step)}


def assert_identical(actual: Any, expected: Any) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for got, want in zip(jax.tree.leaves(actual), map(np.asarray, jax.tree.leaves(expected)), strict=True):
        assert (got.shape, got.dtype, got.tobytes()) == (want.shape, want.dtype, want.tobytes())


def store_with(directory: Path, *steps: int, **rules: int) -> CheckpointStore:
    with CheckpointStore(directory, **rules) as store:
        for step in steps:
            store.save(step, small_state(step), {"step": step}, None)
    return store


def flip(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1 << position % 8
    file.write_bytes(content)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def in_subprocess(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        command, text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, **pipes
    )
