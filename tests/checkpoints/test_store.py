"""Checkpoints: bit-identical round trips, which of them stay, and what may read them."""

import math
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hepcli.checkpoints import CheckpointStore
from hepcli.errors import CheckpointError

from .states import PARAMS, assert_identical, files_of, in_subprocess, small_state, store_with, training_state


@pytest.mark.parametrize("target_of", [lambda state: state, lambda state: jax.eval_shape(lambda: state)])
def test_every_leaf_comes_back_bit_identical(tmp_path: Path, target_of: Callable[[Any], Any]) -> None:
    state, metadata = training_state(seed=3), {"epoch": 2, "history": [0.1, {"loss": None}], "note": "é"}
    if target_of(state) is not state:  # eval_shape would make float32 of the 64-bit leaves
        state = state._replace(extras={name: state.extras[name] for name in ("bfloat16", "complex64")})
    with CheckpointStore(tmp_path / "new" / "checkpoints") as store:
        store.save(7, state, metadata, 0.5)
        restored = store.restore(target_of(state))
    assert restored.step == 7
    assert restored.metadata == metadata
    assert restored.damaged == ()
    assert_identical(restored.state, state)


def test_restored_state_continues_training_with_sgd(tmp_path: Path) -> None:
    optimizer = optax.sgd(0.1, momentum=0.9)
    state = (PARAMS, optimizer.init(PARAMS))
    with CheckpointStore(tmp_path) as store:
        store.save(0, state, {}, None)
        params, opt_state = store.restore(state).state
    expected = optimizer.update(PARAMS, state[1], PARAMS)
    assert_identical(jax.tree.map(np.asarray, optimizer.update(params, opt_state, params)), expected)


@pytest.mark.parametrize("state", [{}, {"empty": np.zeros((0, 2), np.complex64)}, np.array(3, np.uint32)])
def test_states_without_data_or_structure(tmp_path: Path, state: Any) -> None:
    with CheckpointStore(tmp_path) as store:
        store.save(1, state, {}, None)
        assert_identical(store.restore(state).state, state)


def test_save_takes_a_copy_before_it_returns(tmp_path: Path) -> None:
    array, donated, metadata = np.zeros(1000), jnp.zeros(1000), {"list": [1]}
    with CheckpointStore(tmp_path) as store:
        store.save(1, (array, donated), metadata, None)
        array[:] = 1
        metadata["list"].append(2)
        jax.block_until_ready(jax.jit(lambda x: x + 1, donate_argnums=0)(donated))
        restored = store.restore((np.zeros(1000), jnp.zeros(1000)))
    assert not any(leaf.any() for leaf in restored.state)
    assert restored.metadata == {"list": [1]}


def test_a_copied_run_opens_elsewhere_by_relative_path_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_with(tmp_path / "here", 1, 2)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    shutil.rmtree(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with CheckpointStore(Path("there")) as store:
        assert store.restore(small_state(0)).step == 2
        assert store.steps() == [1, 2]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_back_to_back_saves_are_not_skipped(tmp_path: Path) -> None:
    assert store_with(tmp_path, *range(6), keep_latest=10).steps() == [0, 1, 2, 3, 4, 5]


def test_latest_best_and_every_n_steps_are_kept_over_several_processes(tmp_path: Path) -> None:
    metrics = {1: 0.1, 2: 0.9, 3: math.nan, 4: None, 5: math.inf, 6: 0.2, 7: -math.inf}
    for step, metric in metrics.items():  # a new store each time, as after --resume
        with CheckpointStore(tmp_path, keep_every_steps=3) as store:
            store.save(step, small_state(step), {}, metric)
    assert store.steps() == [2, 3, 6, 7]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3", "6", "7"]


def test_defaults_keep_the_latest_two_and_the_best_within_one_process(tmp_path: Path) -> None:
    with CheckpointStore(tmp_path) as store:
        for step, metric in enumerate([0.2, 0.9, 0.9, math.nan, 0.3, 0.1]):
            store.save(step, small_state(step), {}, metric)
    assert store.steps() == [1, 4, 5]  # of equals the earlier, as summary.json has it


def test_without_best_only_the_latest_is_kept(tmp_path: Path) -> None:
    with CheckpointStore(tmp_path, keep_latest=1, keep_best=0) as store:
        for step in range(3):
            store.save(step, small_state(step), {}, float(-step))
    assert store.steps() == [2]


@pytest.mark.parametrize("rules", [{"keep_latest": 0}, {"keep_best": -1}, {"keep_every_steps": -1}])
def test_rules_that_make_no_sense_are_refused(tmp_path: Path, rules: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="keep_latest"):
        CheckpointStore(tmp_path, **rules)


@pytest.mark.parametrize("reopen", [False, True])
def test_saving_a_step_again_leaves_it_alone(tmp_path: Path, reopen: bool) -> None:
    store = store_with(tmp_path, 1)
    before = {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files_of(tmp_path)}
    with CheckpointStore(tmp_path) if reopen else store as again:
        again.save(1, small_state(1), {"other": True}, 1.0)
    assert {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files_of(tmp_path)} == before


TWO_PROCESSES = """
    import sys
    from pathlib import Path
    import jax
    from jax.experimental.multihost_utils import sync_global_devices
    from hepcli.checkpoints import CheckpointStore

    index = int(sys.argv[3])
    jax.distributed.initialize(f"localhost:{sys.argv[2]}", 2, index)
    state = {"w": jax.numpy.arange(8.0)}
    with CheckpointStore(Path(sys.argv[1])) as store:
        if index == 0:
            store.save(3, state, {}, None)
            store.wait()
        sync_global_devices("saved")
        restored = store.restore(state)
        print(restored.step, restored.state["w"].sum())
        sync_global_devices("restored")
"""


@pytest.mark.slow
def test_one_of_two_jax_processes_saves_and_both_restore(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    processes = [in_subprocess(TWO_PROCESSES, tmp_path, port, index) for index in range(2)]
    try:
        for process in processes:
            output, errors = process.communicate(timeout=90)  # a barrier that only one reaches never ends
            assert output.splitlines()[-1:] == ["3 28.0"], errors
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_the_module_is_imported_without_jax_or_orbax() -> None:
    code = "import sys, hepcli.checkpoints; print({'jax', 'orbax'} & {*sys.modules})"
    assert in_subprocess(code).communicate(timeout=30) == ("set()\n", "")


def test_a_part_of_a_state_is_read_alone(tmp_path):
    store = store_with(tmp_path / "run", 1)
    with pytest.raises(CheckpointError, match="another network"):
        store.restore({"w": small_state(1)["w"]})
    restored = store.restore({"w": small_state(1)["w"]}, whole=False)
    assert_identical(restored.state, {"w": small_state(1)["w"]})
    with pytest.raises(CheckpointError, match="another network"):
        store.restore({"w": np.zeros((4, 6), np.float32)}, whole=False)
    with pytest.raises(CheckpointError, match=r"its array .*'v'.* is missing"):
        store.restore({"v": small_state(1)["w"]}, whole=False)


def test_leaves_that_were_called_otherwise_or_are_new(tmp_path):
    """What an older version saved is read under the names of this one; nothing else is guessed."""
    store = store_with(tmp_path / "run", 3)
    target = {"weights": small_state(3)["w"], "step": np.array(0), "seen": np.ones(2)}
    older = {"['weights']": "['w']", "['seen']": None}
    restored = store.restore(target, older=older).state
    expected = {"weights": small_state(3)["w"], "step": np.array(3), "seen": np.zeros(2)}
    assert_identical(restored, expected)
    with pytest.raises(CheckpointError, match="another network"):
        store.restore(target, older={"['weights']": "['w']"})
    store_with(tmp_path / "new", 1)
    again = CheckpointStore(tmp_path / "new").restore(small_state(0), older={"['w']": "['old']"})
    assert_identical(again.state, small_state(1))


@pytest.mark.parametrize("name", ["lr[0.1]", "a*b?", "{x}", "100%", "mit Umlaut ä", "#1"])
def test_a_folder_may_be_called_anything(tmp_path, name):
    store = store_with(tmp_path / name / "checkpoints", 1, 2)
    assert_identical(store.restore(small_state(0)).state, small_state(2))


def test_what_is_saved_after_going_back_replaces_what_came_later(tmp_path):
    store_with(tmp_path, 1, 2, 3, keep_latest=3)
    with CheckpointStore(tmp_path, keep_latest=3) as store:
        assert store.restore(small_state(0)).step == 3
        assert store.restore(small_state(0), 1).step == 1
        store.save(2, small_state(7), {"again": True}, 0.5)
        store.save(2, small_state(8), {"again": False}, None)  # there already
    restored = CheckpointStore(tmp_path).restore(small_state(0), 2)
    assert restored.metadata == {"again": True}
    assert_identical(restored.state, small_state(7))


def test_random_keys_come_back(tmp_path):
    """As Optax's add_noise keeps one."""
    state = {"key": jax.random.key(3), "of another kind": jax.random.split(jax.random.key(4, impl="rbg"))}
    with CheckpointStore(tmp_path) as store:
        store.save(1, state, {}, None)
        restored = store.restore(jax.tree.map(jnp.zeros_like, state)).state
    for ours, theirs in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        assert ours.dtype == theirs.dtype
        assert jnp.array_equal(jax.random.key_data(ours), jax.random.key_data(theirs))
