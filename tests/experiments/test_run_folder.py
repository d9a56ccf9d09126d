"""Run folders on file systems as they are: names, locks, what was killed, figures that fail."""

import errno
import os

import matplotlib
import pytest

from hepcli.config import load_config
from hepcli.errors import FolderBusyError, OutputError
from hepcli.experiments.figures.curves import curves_of
from hepcli.experiments.figures.drawing import draw_figure
from hepcli.experiments.run_folder import RunFolder

RESOLVED = load_config("quickstart")


def test_new_folders_of_the_same_second_are_several(tmp_path):
    folders = [RunFolder(tmp_path / "runs" / "quickstart-now", is_new=True) for _ in range(3)]
    for folder in folders:
        with folder.claimed():
            folder.create(RESOLVED)
    names = [folder.path.name for folder in folders]
    assert names == ["quickstart-now", "quickstart-now-2", "quickstart-now-3"]


def test_a_folder_without_a_step_is_no_run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.checkpoints.mkdir(parents=True)
    (folder.checkpoints / ".saving-0").mkdir()
    (folder.path / "config.toml").write_text("# Every value of th")
    (folder.path / "metrics.jsonl").write_text("")
    assert not folder.holds_run
    with folder.claimed():
        folder.create(RESOLVED)
    assert not (folder.path / "metrics.jsonl").exists()
    (folder.checkpoints / "10").mkdir()
    with pytest.raises(OutputError, match="already contains a run") as caught:
        folder.create(RESOLVED)
    assert folder.resume_command in caught.value.advice


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("summary.json", '{"epochs": 20}'),
        ("summary.json", "mine"),
        ("config.toml", "a = 1"),
        ("metrics.jsonl", '{"epoch": 1}\n'),  # its checkpoints lie on a disk that is not mounted
    ],
)
def test_what_is_not_of_a_killed_run_is_never_replaced(tmp_path, name, text):
    folder = RunFolder(tmp_path / "run")
    with folder.claimed():
        (folder.path / name).write_text(text)
        with pytest.raises(OutputError, match=name):
            folder.create(RESOLVED)
    assert (folder.path / name).read_text() == text


def test_a_parent_that_is_a_link_to_nowhere_is_said(tmp_path):
    (tmp_path / "runs").symlink_to(tmp_path / "unmounted")
    folder = RunFolder(tmp_path / "runs" / "quickstart-now", is_new=True)
    with pytest.raises(OutputError, match="runs is a link to"), folder.claimed():
        pytest.fail("held")


def test_a_figure_that_fails_leaves_the_one_before(tmp_path, monkeypatch):
    from hepcli.experiments.figures.style import new_figure, save_figure

    figure, file = new_figure(1, 1), tmp_path / "curves.png"
    save_figure(figure, file)
    before = file.read_bytes()

    def torn(path, **options):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(figure, "savefig", torn)
    with pytest.raises(OSError, match="No space"):
        save_figure(figure, file)
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["curves.png"]


def test_advice_can_be_pasted(tmp_path):
    command = RunFolder(tmp_path / "my run").resume_command
    assert f"'{tmp_path / 'my run'}'" in command


def test_the_loser_of_two_leaves_the_configuration_of_the_other(tmp_path):
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    with first.claimed():
        first.create(RESOLVED)
        before = (tmp_path / "run" / "config.toml").read_bytes()
        with pytest.raises(FolderBusyError), second.claimed():
            pytest.fail("held twice")
    assert (tmp_path / "run" / "config.toml").read_bytes() == before


def test_without_locks_training_goes_on_with_a_notice(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    folder = RunFolder(tmp_path / "run")
    with folder.claimed():
        folder.create(RESOLVED)
    assert "cannot be locked" in folder.notices[0]


def test_figures_know_nothing_of_the_users_matplotlib(tmp_path, monkeypatch):
    """Neither LaTeX nor the mathematics that a dollar in a name would begin."""
    split = {"loss": 1.0, "top1": 0.5, "settled": 1.0, "log10_residual": -3.0}
    line = {"epoch": 1, "train": split | {"nudged_log10_residual": None}, "test": split}
    line |= {"weight_angle_deg": 90.0, "weight_angle_deg_by_pair": {}, "homeostatic_loss": 1.0}
    draw_figure(curves_of([line], "cost$a_$b"), tmp_path / "plain.png")
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)
    monkeypatch.setitem(matplotlib.rcParams, "axes.facecolor", "red")
    draw_figure(curves_of([line], "cost$a_$b"), tmp_path / "user.png")
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "user.png").read_bytes()
    assert matplotlib.rcParams["text.usetex"]


def test_a_named_pipe_as_lock_is_refused_at_once(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    os.mkfifo(folder.path / ".lock")
    with pytest.raises(OutputError), folder.claimed():
        pytest.fail("held")


def test_a_folder_that_was_moved_or_replaced_is_not_written_to(tmp_path):
    """Else a run would go on under a name that may be another run's by now."""
    folder = RunFolder(tmp_path / "run")
    with folder.claimed():
        folder.append_line("metrics.jsonl", {"epoch": 1})
        (tmp_path / "run").rename(tmp_path / "moved")
        with pytest.raises(OutputError, match="was moved, deleted or replaced"):
            folder.append_line("metrics.jsonl", {"epoch": 2})
        assert not (tmp_path / "run").exists()
        other = RunFolder(tmp_path / "run")
        with other.claimed():
            with pytest.raises(OutputError, match="was moved, deleted or replaced"):
                folder.check_claim()
            other.append_line("metrics.jsonl", {"epoch": 1})
    assert (tmp_path / "moved" / "metrics.jsonl").read_text() == '{"epoch": 1}\n'
