"""The CHECKPOINT argument."""

import shutil
from pathlib import Path

import pytest

from hepcli.checkpoints import resolve_checkpoint
from hepcli.errors import CheckpointError

from .states import store_with


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
