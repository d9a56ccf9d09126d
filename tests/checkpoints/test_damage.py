"""Damaged, foreign and unreadable steps: noticed, named, never loaded and never deleted."""

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hepcli.checkpoints import CheckpointStore, _manifest, _step_files
from hepcli.errors import CheckpointError

from .states import assert_identical, files_of, flip, small_state, store_with, training_state


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
