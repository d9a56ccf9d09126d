"""Files on file systems as they are: several writers, killed ones, full disks, no hard links."""

import errno
import os
import threading
from pathlib import Path

import pytest

from hepcli.files import clear_temporaries, create, replacing, sync, write_once


def refusing(number):
    def refuse(*arguments, **options):
        raise OSError(number, os.strerror(number))

    return refuse


def test_writers_at_once_never_meet_each_others_drafts(tmp_path):
    errors = []

    def write(content):
        try:
            for _ in range(50):
                with replacing(tmp_path / "file") as temporary:
                    temporary.write_text(content * 1000)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert (tmp_path / "file").read_text() in ("a" * 1000, "b" * 1000)
    assert os.listdir(tmp_path) == ["file"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("before")
    monkeypatch.setattr(os, "fsync", refusing(errno.ENOSPC))
    with pytest.raises(OSError, match="No space"), replacing(tmp_path / "file") as temporary:
        temporary.write_text("after")
    with pytest.raises(OSError, match="No space"):
        create(tmp_path / "entry", "text")
    with pytest.raises(OSError, match="No space"):
        write_once(tmp_path / "once", "text")
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "before"


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_the_first_of_several_stays(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", refusing(errno.EPERM))
    assert write_once(tmp_path / "file", "first")
    assert not write_once(tmp_path / "file", "second")
    assert (tmp_path / "file").read_text() == "first"
    assert os.listdir(tmp_path) == ["file"]


def test_folders_that_cannot_be_flushed_are_written_all_the_same(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "fsync", refusing(errno.EINVAL))
    sync(tmp_path)
    with pytest.raises(OSError, match="Invalid"):
        sync(tmp_path / "file")


def test_what_killed_writers_left_is_cleared(tmp_path):
    theirs = [".lock", ".notes.md.tmp", "table.md"]
    for name in (".table.md.12-0a1b2c3d.tmp", *theirs):
        (tmp_path / name).touch()
    (tmp_path / ".cache.1-00000000.tmp").mkdir()
    clear_temporaries(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".cache.1-00000000.tmp", *theirs]


def test_without_links_a_writer_that_is_killed_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", refusing(errno.EPERM))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refusing(errno.EIO))
        with pytest.raises(OSError, match="Input/output"):
            write_once(tmp_path / "file", "half")
    assert not (tmp_path / "file").exists()
    assert write_once(tmp_path / "file", "whole")


def test_without_links_one_of_many_writers_is_first(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", refusing(errno.EPERM))
    won = []
    threads = [
        threading.Thread(target=lambda text=text: won.append((write_once(tmp_path / "file", text), text)))
        for text in "abcdefgh"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [text for first, text in won if first] == [(tmp_path / "file").read_text()]


def test_a_folder_that_takes_no_files_is_not_one_without_hard_links(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "write_text", refusing(errno.EACCES))
    with pytest.raises(PermissionError, match="Permission denied"):
        write_once(tmp_path / "file", "text")
