"""Checkpoints: bit-identical round trips, retention, damage, full disks, killed processes."""

import math
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hepcli.checkpoints import CheckpointStore, _manifest, _step_files, resolve_checkpoint
from hepcli.errors import CheckpointError, OutputError

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


# Round trips


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


# Retention


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


def test_a_damaged_step_is_replaced_when_training_reaches_it_again(tmp_path: Path) -> None:
    store_with(tmp_path, 1, 2, 3)
    flip(tmp_path / "3" / "manifest.json", 30)
    with CheckpointStore(tmp_path) as store:
        assert store.restore(small_state(0)).step == 2
        store.save(3, small_state(3), {}, None)
        restored = store.restore(small_state(0))
    assert (restored.step, restored.damaged) == (3, ())
    assert_identical(restored.state, small_state(3))


def test_damaged_steps_do_not_count_as_kept(tmp_path: Path) -> None:
    store_with(tmp_path, 2, 3)
    shutil.rmtree(tmp_path / "3" / "state")
    assert store_with(tmp_path, 4).steps() == [2, 4]


# Damage


def test_any_flipped_byte_is_noticed_and_the_previous_step_used(tmp_path: Path) -> None:
    store, state = CheckpointStore(tmp_path / "run"), training_state()
    with store:
        store.save(1, state, {"epoch": 1}, None)
        store.save(2, state, {"epoch": 2}, None)
    files, trials = files_of(tmp_path / "run" / "2"), 0
    generator = random.Random(0)
    for file in files:
        content = file.read_bytes()
        for position in {0, len(content) - 1, generator.randrange(max(len(content), 1))} if content else ():
            flip(file, position)
            restored = store.restore(state)
            assert restored.step == 1, f"{file.name} at byte {position}"
            assert restored.metadata == {"epoch": 1}
            assert len(restored.damaged) == 1
            file.write_bytes(content)
            trials += 1
    assert trials > 20
    assert store.restore(state).step == 2


@pytest.mark.parametrize("harm", ["truncate", "delete"])
def test_truncated_and_missing_files_are_noticed(tmp_path: Path, harm: str) -> None:
    store = store_with(tmp_path, 1, 2)
    for file in files_of(tmp_path / "2"):
        content = file.read_bytes()
        if harm == "truncate" and not content:
            continue
        file.unlink() if harm == "delete" else file.write_bytes(content[:-1])
        assert store.steps() == [1]
        restored = store.restore(small_state(0))
        assert restored.step == 1
        assert restored.damaged[0].startswith("Step 2 is damaged")
        file.write_bytes(content)
    assert store.restore(small_state(0)).step == 2


def test_a_half_copied_step_is_skipped_whatever_part_of_it_arrived(tmp_path: Path) -> None:
    store = store_with(tmp_path, 1, 2)
    files = [file.relative_to(tmp_path / "2") for file in files_of(tmp_path / "2")]
    shutil.move(tmp_path / "2", tmp_path / "whole")
    for count in range(len(files)):
        shutil.rmtree(tmp_path / "2", ignore_errors=True)
        (tmp_path / "2").mkdir()
        for file in files[:count]:
            (tmp_path / "2" / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(tmp_path / "whole" / file, tmp_path / "2" / file)
        assert store.restore(small_state(0)).step == 1


def test_skipped_steps_are_reported_newest_first_with_the_unfinished_ones(tmp_path: Path) -> None:
    store = store_with(tmp_path, 1, 2, 3, keep_latest=3)
    flip(files_of(tmp_path / "2" / "state")[0], 5)
    (tmp_path / "3" / "manifest.sha256").unlink()
    shutil.copytree(tmp_path / "1", tmp_path / ".saving-4")
    restored = store.restore(small_state(0))
    assert restored.step == 1
    assert_identical(restored.state, small_state(1))
    assert [line.split(" is damaged: ")[0] for line in restored.damaged] == ["Step 4", "Step 3", "Step 2"]
    assert "was interrupted" in restored.damaged[0]


def test_a_step_renamed_to_another_number_is_noticed(tmp_path: Path) -> None:
    store = store_with(tmp_path, 1)
    shutil.copytree(tmp_path / "1", tmp_path / "9")
    assert store.restore(small_state(0)).damaged == ("Step 9 is damaged: its manifest is for step 1.",)


def test_nothing_intact_is_an_error_and_never_a_fresh_start(tmp_path: Path) -> None:
    store = store_with(tmp_path, 1, 2)
    for step in "12":
        flip(files_of(tmp_path / step / "state")[0], 0)
    with pytest.raises(CheckpointError, match=r"No intact checkpoint.*Step 2 is damaged.*Step 1 is damaged"):
        store.restore(small_state(0))
    with pytest.raises(CheckpointError, match="It contains no checkpoint"):
        CheckpointStore(tmp_path / "missing").restore(small_state(0))


def test_a_named_step_is_that_step_or_an_error(tmp_path: Path) -> None:
    store = store_with(tmp_path, 0, 1, 2, keep_latest=3)
    assert store.restore(small_state(0), step=1).metadata == {"step": 1}
    with pytest.raises(CheckpointError, match="no step 5") as missing:
        store.restore(small_state(0), step=5)
    assert missing.value.advice == "Choose another step: 0, 1, 2."
    (tmp_path / "0" / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="Step 0 is damaged") as damaged:
        store.restore(small_state(0), step=0)
    assert damaged.value.advice == "Choose another step: 1, 2."


@pytest.mark.parametrize(
    ("target", "difference"),
    [
        (
            {"w": np.zeros((4, 6), np.float32), "step": 0},
            r"\['w'\] is float32\[4, 5\], but float32\[4, 6\] is expected",
        ),
        (
            {"w": np.zeros((4, 5), np.complex64), "step": 0},
            r"\['w'\] is float32.*but complex64\[4, 5\] is expected",
        ),
        (
            {"w": np.zeros((4, 5), np.float32), "step": 0, "x": 0},
            r"\['x'\] is missing",
        ),
        ({"w": np.zeros((4, 5), np.float32)}, r"\['step'\] is not expected"),
    ],
)
def test_another_network_is_refused_by_the_first_leaf_that_differs(
    tmp_path: Path, target: Any, difference: str
) -> None:
    with pytest.raises(CheckpointError, match=difference):
        store_with(tmp_path, 1, 2).restore(target)


def test_a_complex_state_is_never_cast_to_a_real_target(tmp_path: Path) -> None:
    with CheckpointStore(tmp_path) as store:
        store.save(1, {"u": np.array([1j], np.complex64)}, {}, None)
        with pytest.raises(CheckpointError, match="is complex64"):
            store.restore({"u": np.zeros(1, np.float32)})


# Saves that cannot finish


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = CheckpointStore(tmp_path / "file" / "checkpoints")
    store.save(1, small_state(1), {}, None)
    with pytest.raises(OutputError, match=r"Step 1 could not be saved.*Not a directory"):
        store.wait()
    store.close()


def test_a_save_is_tried_though_the_one_before_it_failed(tmp_path: Path) -> None:
    """There may be room by then, and what was trained since would be lost."""
    blocked = tmp_path / "checkpoints"
    blocked.write_text("")
    store = CheckpointStore(blocked)
    store.save(1, small_state(1), {}, None)
    store._pending[1].exception()
    blocked.unlink()
    with pytest.raises(OutputError, match="Step 1 could not be saved"):
        store.save(2, small_state(2), {}, None)
    store.close()
    assert store.steps() == [2]


def test_the_error_that_ends_the_block_is_not_hidden_by_a_failed_save(tmp_path: Path) -> None:
    def interrupted_after_a_save() -> None:
        with CheckpointStore(tmp_path / "file" / "checkpoints") as store:
            store.save(1, small_state(1), {}, None)
            raise KeyboardInterrupt

    (tmp_path / "file").write_text("")
    with pytest.raises(KeyboardInterrupt) as interrupt:
        interrupted_after_a_save()
    assert "could not be saved" in interrupt.value.__notes__[0]


FULL_DISK = """
    import os, resource, sys
    from pathlib import Path
    import numpy as np
    from hepcli.checkpoints import CheckpointStore
    from hepcli.errors import OutputError

    if sys.argv.pop(1) == "late":
        del os.posix_fallocate  # as on macOS: TensorStore is the first to find the disk full
    with CheckpointStore(Path(sys.argv[1])) as store:
        store.save(1, {"w": np.arange(50.0)}, {}, None)
        store.wait()
        noise = np.random.default_rng(0).normal(size=50)
        big = {"w": noise, "x": np.random.default_rng(1).normal(size=20_000)}
        for limit in map(int, sys.argv[2:]):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            store.save(2, big, {}, None)
            try:
                store.wait()
            except OutputError as error:
                print(error.what.split(": ")[-1])
            else:
                print("saved")
            assert store.restore({"w": noise}, step=1).step == 1
"""


@pytest.mark.parametrize("noticed", ["early", "late"])
def test_a_full_disk_is_an_output_error_and_leaves_the_earlier_steps(tmp_path: Path, noticed: str) -> None:
    # A file-size limit fails writes at that point of each file; Python has made SIGXFSZ an ordinary error.
    process = in_subprocess(FULL_DISK, noticed, tmp_path, 0, 100, 300, 1_000, 100_000)
    output, errors = process.communicate(timeout=60)
    assert output.splitlines() == ["File too large."] * 5, errors
    if noticed == "early":
        assert errors == ""
        assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert store_with(tmp_path, 3).steps() == [1, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "3"]


SAVE_FOREVER = """
    import itertools, sys
    from pathlib import Path
    import numpy as np
    from hepcli.checkpoints import CheckpointStore

    target = {"w": np.zeros((300, 300)), "step": np.array(0)}
    store = CheckpointStore(Path(sys.argv[1]))
    first = store.restore(target).step + 1 if store.steps() else 0
    print("ready", flush=True)
    for step in itertools.count(first):
        state = {"w": np.full((300, 300), float(step)), "step": np.array(step)}
        store.save(step, state, {"step": step}, step % 3)
"""


def test_a_kill_at_any_moment_leaves_a_complete_consistent_step(tmp_path: Path) -> None:
    target, reached = {"w": np.zeros((300, 300)), "step": np.array(0)}, -1
    generator = random.Random(1)
    for _ in range(5):
        process = in_subprocess(SAVE_FOREVER, tmp_path)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
        deadline = time.monotonic() + 60
        while max(CheckpointStore(tmp_path).steps(), default=-1) <= reached and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(generator.random() * 0.3)
        process.send_signal(signal.SIGKILL)
        assert process.communicate()[1] == ""
        restored = CheckpointStore(tmp_path).restore(target)
        assert restored.step > reached
        assert restored.metadata == {"step": restored.step}
        assert (restored.state["w"] == restored.step).all()
        assert restored.state["step"] == restored.step
        assert all("was interrupted" in line for line in restored.damaged)
        reached = restored.step


def test_leftovers_of_a_killed_process_are_cleared_by_the_next_save(tmp_path: Path) -> None:
    store_with(tmp_path, 1)
    shutil.copytree(tmp_path / "1", tmp_path / ".saving-2")
    shutil.copytree(tmp_path / "1", tmp_path / ".deleting-0")
    assert store_with(tmp_path, 2).steps() == [1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


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


# The CHECKPOINT argument


@pytest.fixture
def run(tmp_path: Path) -> Path:
    store_with(tmp_path / "run" / "checkpoints", 1, 20)
    (tmp_path / "run" / "config.toml").write_text("")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("form", "step"),
    [("", None), ("checkpoints", None), ("checkpoints/20", 20), ("checkpoints/../checkpoints/1/", 1)],
)
def test_each_form_of_the_argument_means_the_run(
    run: Path, form: str, step: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve_checkpoint(run / form) == (run.resolve(), step)
    monkeypatch.chdir(run)
    assert resolve_checkpoint(Path(form)) == (run.resolve(), step)


def test_checkpoints_may_lie_elsewhere_behind_a_link(run: Path, tmp_path: Path) -> None:
    shutil.move(run / "checkpoints", tmp_path / "scratch")
    (run / "checkpoints").symlink_to(tmp_path / "scratch")
    assert resolve_checkpoint(run / "checkpoints") == (run, None)
    assert resolve_checkpoint(run / "checkpoints" / "20") == (run, 20)


@pytest.mark.parametrize("name", ["checkpoints", "100"])
def test_a_run_may_have_the_name_of_something_inside_a_run(run: Path, name: str) -> None:
    moved = run.rename(run.with_name(name)).resolve()
    assert resolve_checkpoint(moved) == (moved, None)
    assert resolve_checkpoint(moved / "checkpoints" / "1") == (moved, 1)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "does not exist"),
        ("checkpoints/3", "does not exist"),
        ("config.toml", "is not a folder"),
        ("checkpoints/20/state", "is not .part of. a run"),
        ("..", "is not .part of. a run"),
    ],
)
def test_anything_else_is_an_error_with_advice(run: Path, path: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as error:
        resolve_checkpoint(run / path)
    assert "Give a run folder" in error.value.advice


def test_a_run_without_a_checkpoint_is_an_error(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(CheckpointError, match="no checkpoint yet") as error:
        resolve_checkpoint(run)
    assert "the command that started it" in error.value.advice


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


def test_an_old_step_that_cannot_be_deleted_costs_nothing(tmp_path, monkeypatch):
    """As on NFS, where a file that somebody still reads keeps its folder from going."""
    monkeypatch.setattr(os, "rmdir", lambda *arguments, **options: (_ for _ in ()).throw(OSError(39, "busy")))
    store = store_with(tmp_path / "run", 1, 2, 3, 4, keep_latest=1, keep_best=0)
    assert store.steps() == [4]
    assert_identical(store.restore(small_state(0)).state, small_state(4))


def test_a_step_that_is_deleted_while_it_is_read_gives_way_to_a_newer_one(tmp_path, monkeypatch):
    """As when a run that goes on saves newer steps than those that were there at first."""
    store = store_with(tmp_path / "run", 1, 2)
    read = _step_files.read_leaves

    def overtaken(folder, specs):
        if folder.name == "2":
            store_with(tmp_path / "run", 3, 4)  # which deletes both
        return read(folder, specs)

    monkeypatch.setattr(_step_files, "read_leaves", overtaken)
    restored = store.restore(small_state(0))
    assert (restored.step, restored.damaged) == (4, ())
    store_with(tmp_path / "other", 2)
    monkeypatch.setattr(_step_files, "read_leaves", lambda folder, specs: read(folder / "gone", specs))
    with pytest.raises(CheckpointError, match="its arrays cannot be read"):
        CheckpointStore(tmp_path / "other").restore(small_state(0))
    with pytest.raises(CheckpointError, match="its arrays cannot be read"):
        CheckpointStore(tmp_path / "other").restore(small_state(0), step=2)


def test_a_step_that_cannot_be_read_for_a_moment_is_never_deleted(tmp_path, monkeypatch):
    with CheckpointStore(tmp_path, keep_latest=1, keep_best=1) as store:
        for step, metric in ((1, 0.9), (2, 0.1)):
            store.save(step, small_state(step), {}, metric)
    digest = _manifest.file_digest

    def refuse(path):
        if path.parent.name == "1":
            raise PermissionError(13, "Permission denied")
        return digest(path)

    monkeypatch.setattr(_manifest, "file_digest", refuse)
    with CheckpointStore(tmp_path, keep_latest=1, keep_best=1) as store:
        store.save(3, small_state(3), {}, 0.2)
    assert (tmp_path / "1").is_dir()


def saved_again(directory: Path) -> CheckpointStore:
    """A store that saves step 2 anew, with another state."""
    store = CheckpointStore(directory, keep_latest=1)
    store.save(2, small_state(7), {"again": True}, None, replace=True)
    return store


def test_a_step_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    store_with(tmp_path, 2, keep_latest=1)
    rename = Path.rename

    def refuse(self, target):
        if self.name == ".saving-2":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OutputError, match="Input/output error"):
        saved_again(tmp_path).wait()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2"]
    assert_identical(CheckpointStore(tmp_path).restore(small_state(0)).state, small_state(2))


def test_a_kill_between_the_old_step_and_the_new_one_loses_neither(tmp_path):
    store_with(tmp_path / "run", 2, keep_latest=1)
    with saved_again(tmp_path / "new") as new:
        new.wait()
    (tmp_path / "run" / "2").rename(tmp_path / "run" / ".replaced-2")
    shutil.copytree(tmp_path / "new" / "2", tmp_path / "run" / ".saving-2")
    store = CheckpointStore(tmp_path / "run")
    assert store.steps() == store.all_steps() == [2]
    restored = store.restore(small_state(0))
    assert (restored.metadata, restored.damaged) == ({"again": True}, ())
    assert_identical(restored.state, small_state(7))
    with store:
        assert store.survey() == ()
        store.save(3, small_state(3), {}, None)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["2", "3"]


def test_the_old_step_comes_back_where_the_new_one_is_not_whole(tmp_path):
    store_with(tmp_path, 2, keep_latest=1)
    (tmp_path / "2").rename(tmp_path / ".replaced-2")
    (tmp_path / ".saving-2").mkdir()
    store = CheckpointStore(tmp_path)
    assert store.steps() == [2]
    assert_identical(store.restore(small_state(0)).state, small_state(2))
    with store:
        assert store.survey() == ()
    assert [path.name for path in tmp_path.iterdir()] == ["2"]


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


def test_damaged_steps_are_named_and_left_where_they_are(tmp_path):
    store_with(tmp_path, 1, 2, keep_latest=2)
    flip(files_of(tmp_path / "1" / "state")[0], 5)
    with CheckpointStore(tmp_path, keep_latest=1) as store:
        assert store.restore(small_state(0)).damaged == ()
        (line,) = store.survey()
        assert line.startswith("Step 1 is damaged: ")
        store.save(3, small_state(3), {}, None)
    assert CheckpointStore(tmp_path).all_steps() == [1, 3]


def test_a_step_that_the_system_refuses_to_read_is_an_error_not_an_older_step(tmp_path, monkeypatch):
    store_with(tmp_path, 1, 2)
    digest = _manifest.file_digest

    def refuse(path):
        if "2" in path.parts:
            raise PermissionError(13, "Permission denied")
        return digest(path)

    monkeypatch.setattr(_manifest, "file_digest", refuse)
    with pytest.raises(CheckpointError, match=r"Step 2 in .* cannot be read: .*Permission denied"):
        CheckpointStore(tmp_path).restore(small_state(0))


def test_a_folder_that_has_gone_is_not_made_again(tmp_path):
    with CheckpointStore(tmp_path / "run" / "checkpoints") as store:
        store.save(1, small_state(1), {}, None)
        store.wait()
        (tmp_path / "run").rename(tmp_path / "elsewhere")
        store.save(2, small_state(2), {}, None)
        with pytest.raises(OutputError, match="No such file"):
            store.wait()
    assert not (tmp_path / "run").exists()


def test_random_keys_come_back(tmp_path):
    """As Optax's add_noise keeps one."""
    state = {"key": jax.random.key(3), "of another kind": jax.random.split(jax.random.key(4, impl="rbg"))}
    with CheckpointStore(tmp_path) as store:
        store.save(1, state, {}, None)
        restored = store.restore(jax.tree.map(jnp.zeros_like, state)).state
    for ours, theirs in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        assert ours.dtype == theirs.dtype
        assert jnp.array_equal(jax.random.key_data(ours), jax.random.key_data(theirs))
