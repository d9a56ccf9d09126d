"""Saves that cannot finish: full disks, folders that refuse, and processes that are killed."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from hepcli.checkpoints import CheckpointStore
from hepcli.errors import OutputError

from .states import assert_identical, in_subprocess, small_state, store_with


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


def test_an_old_step_that_cannot_be_deleted_costs_nothing(tmp_path, monkeypatch):
    """As on NFS, where a file that somebody still reads keeps its folder from going."""
    monkeypatch.setattr(os, "rmdir", lambda *arguments, **options: (_ for _ in ()).throw(OSError(39, "busy")))
    store = store_with(tmp_path / "run", 1, 2, 3, 4, keep_latest=1, keep_best=0)
    assert store.steps() == [4]
    assert_identical(store.restore(small_state(0)).state, small_state(4))


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


def test_a_folder_that_has_gone_is_not_made_again(tmp_path):
    with CheckpointStore(tmp_path / "run" / "checkpoints") as store:
        store.save(1, small_state(1), {}, None)
        store.wait()
        (tmp_path / "run").rename(tmp_path / "elsewhere")
        store.save(2, small_state(2), {}, None)
        with pytest.raises(OutputError, match="No such file"):
            store.wait()
    assert not (tmp_path / "run").exists()
