"""The state of one step: as leaves by path, written, and read back only when every byte is as it was."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hepcli.checkpoints._arrays import leaf_digest, read_leaves, write_arrays
from hepcli.checkpoints._manifest import DamagedError, verified_manifest
from hepcli.errors import CheckpointError

PyTree = Any  # what JAX flattens: nested dictionaries, tuples and named tuples of arrays


def named_leaves(tree: PyTree) -> dict[str, Any]:
    """Flatten a tree into leaves by path, such as `['params']['w']`; JAX quotes keys, so paths are unique."""
    import jax

    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def words(leaf: Any) -> Any:
    """A leaf as it is saved: random keys, which NumPy does not know, as the words they are made of."""
    import jax

    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _is_key(leaf: Any) -> bool:
    import jax

    return hasattr(leaf, "dtype") and bool(jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _spec(leaf: Any) -> dict[str, Any]:
    """Describe shape and dtype of an array, a `ShapeDtypeStruct` or a Python number."""
    array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return {"shape": list(array.shape), "dtype": str(array.dtype)}


def read_step(
    folder: Path, target: PyTree, whole: bool, older: Mapping[str, str | None]
) -> tuple[PyTree, dict[str, Any]]:
    """Load one step into the tree of the target; see `CheckpointStore.restore`."""
    import jax

    manifest = verified_manifest(folder)
    like = named_leaves(target)
    wanted = {name: _spec(words(leaf)) for name, leaf in like.items()}
    specs = _by_newer_name(manifest["leaves"], wanted, older)
    if not whole:
        specs = {name: spec for name, spec in specs.items() if name in wanted}
    _check_target(folder, specs, wanted)
    leaves: dict[str, Any] = {name: np.zeros(spec["shape"], spec["dtype"]) for name, spec in specs.items()}
    saved = {name: spec for name, spec in specs.items() if "key" in spec}
    for name, leaf in read_leaves(folder, {n: s for n, s in saved.items() if leaves[n].size}).items():
        leaves[name] = leaf
    for name, spec in saved.items():
        if leaf_digest(leaves[name]) != spec["sha256"]:
            raise DamagedError(f"the array {name} differs from what was saved")
    for name, leaf in like.items():
        if _is_key(leaf):
            leaves[name] = jax.random.wrap_key_data(leaves[name], impl=jax.random.key_impl(leaf))
    tree = jax.tree.unflatten(jax.tree.structure(target), [leaves[name] for name in wanted])
    return tree, manifest["metadata"]


def _by_newer_name(
    specs: Mapping[str, Any], wanted: Mapping[str, Any], older: Mapping[str, str | None]
) -> dict[str, Any]:
    """The leaves of a step under the names of the target; one that was not saved then has no key."""
    named = dict(specs)
    for name, before in older.items():
        if name in wanted and name not in named:
            if before in named:
                named[name] = named.pop(before)
            elif before is None:
                named[name] = dict(wanted[name])
    return named


def _check_target(folder: Path, result: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another network, naming the first leaf that differs; nothing is ever cast."""

    for name in dict.fromkeys([*wanted, *result]):
        expected, saved = _described(wanted.get(name)), _described(result.get(name))
        if expected != saved:
            what = f"is {saved}, but {expected} is expected" if expected and saved else "is missing"
            raise CheckpointError(
                f"{folder} belongs to another network: its array {name} "
                f"{what if expected else 'is not expected'}.",
                "Use the configuration it was trained with: the config.toml of its run folder.",
            )


def _described(leaf: Mapping[str, Any] | None) -> str:
    return "" if leaf is None else f"{leaf['dtype']}{leaf['shape']}"


def write_state(folder: Path, leaves: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Give the leaves to Orbax under short keys, since any character may occur in a path.

    Args:
        folder: what Orbax makes.
        leaves: arrays by path; those of size zero, which Orbax refuses, live in the result alone.

    Returns:
        The key, shape, dtype and digest of each leaf, for the manifest.
    """
    specs = {
        name: {"key": f"{index:05d}", **_spec(leaf), "sha256": leaf_digest(leaf)}
        for index, (name, leaf) in enumerate(leaves.items())
    }
    stored = {spec["key"]: leaves[name] for name, spec in specs.items() if leaves[name].size}
    if stored:
        write_arrays(folder, stored)
    return specs


class Restored(NamedTuple):
    """A state read back from a checkpoint.

    Attributes:
        step: the step it was saved at.
        state: the tree of the target, with NumPy leaves; random keys are JAX's.
        metadata: what was given to `save`, after a round trip through JSON.
        damaged: one line for each step that was skipped, newest first.
    """

    step: int
    state: PyTree
    metadata: dict[str, Any]
    damaged: tuple[str, ...]
