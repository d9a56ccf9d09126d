"""Claims: exclusive, alive by their heartbeat, taken over by exactly one."""

import os
import subprocess
import sys
import time

import pytest

from hepcli.errors import OutputError
from hepcli.experiments.sweeps import claims
from hepcli.experiments.sweeps.claims import (
    DONE,
    FAILED,
    RELEASED,
    Heart,
    Journal,
    owner,
)

# Takes as many of the points as can be had once all racers are there, and holds them until it is killed.
GRAB = """
import sys, time
from pathlib import Path
from hepcli.experiments.sweeps.claims import Journal
folder, number = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
won = [point for point in range(number) if Journal(folder / str(point)).claim() is not None]
print(*won, flush=True)
time.sleep(60)
"""


def dead_owner():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return owner() | {"pid": process.pid}


@pytest.mark.parametrize("stale", [False, True], ids=["fresh", "taken over"])
def test_processes_that_race_never_share_a_point(tmp_path, stale):
    number, racers = 60, 3
    if stale:
        dead = dead_owner()
        for point in range(number):
            assert Journal(tmp_path / str(point)).append(1, "claimed", dead)
    command = [sys.executable, "-c", GRAB, str(tmp_path), str(number)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(racers)]
    try:
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * racers
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        claims = [int(point) for process in processes for point in process.stdout.readline().split()]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert sorted(claims) == list(range(number))


def test_a_claim_holds_until_it_is_settled(tmp_path):
    journal = Journal(tmp_path / "point")
    assert journal.state() == "waiting"
    claim = journal.claim()
    assert journal.state() == "running"
    assert journal.claim() is None
    assert claim.settle(RELEASED)
    again = journal.claim()
    assert again.settle(DONE)
    assert journal.state() == "done"
    assert journal.claim() is None


def test_a_claim_without_a_heartbeat_expires(tmp_path):
    journal = Journal(tmp_path / "point", expires_s=0.5)
    claim = journal.claim()
    with Heart([claim], every_s=0.1):
        time.sleep(0.8)
        assert journal.claim() is None
    time.sleep(0.8)
    taker = journal.claim()
    assert taker is not None
    assert claim.lost
    assert not claim.settle(DONE)  # too late: the point is another's
    assert not taker.lost


def test_a_claim_of_a_dead_process_is_void_at_once(tmp_path):
    journal = Journal(tmp_path / "point")
    journal.append(1, "claimed", dead_owner())
    assert journal.state() == "waiting"
    journal.append(2, "claimed", dead_owner() | {"host": "another machine"})
    assert journal.state() == "running"


def test_an_entry_that_was_cut_short_counts_as_a_claim(tmp_path):
    journal = Journal(tmp_path, expires_s=60)
    (tmp_path / "000001.json").touch()
    assert journal.state() == "running"
    os.utime(tmp_path / "000001.json", (0, 0))
    assert journal.state() == "waiting"


def test_two_attempts_then_failed_until_asked_again(tmp_path):
    journal = Journal(tmp_path)
    journal.claim().settle(FAILED, what="first", advice="")
    assert journal.state() == "waiting"
    journal.claim().settle(FAILED, what="second", advice="")
    assert journal.state() == "failed"
    assert [failure["what"] for failure in journal.failures()] == ["first", "second"]
    journal.retry()
    assert journal.state() == "waiting"
    journal.claim().settle(FAILED, what="third", advice="")
    assert journal.state() == "waiting"  # a retry is for two new attempts
    assert journal.claim() is not None


def test_claims_expire_by_the_clock_that_dates_their_files(tmp_path, monkeypatch):
    """That of a file server, which this machine's may be far from."""
    journal = Journal(tmp_path)
    assert journal.append(1, "claimed", owner() | {"host": "another machine"})
    now = time.time()
    monkeypatch.setattr(claims.time, "time", lambda: now + 1000)
    assert journal.state() == "running"


def test_a_point_that_kills_process_after_process_fails_for_good(tmp_path):
    """Unless it gets further between."""
    journal = Journal(tmp_path)
    steps = [0, 0, 10, 10, 10]
    for number, step in enumerate(steps, 1):
        assert journal.state() == "waiting"
        journal.append(number, "claimed", dead_owner() | {"step": step})
    assert journal.claim(10) is None
    assert journal.state() == "failed"
    assert journal.error().startswith("3 processes in a row died while running this point, at step 10.")
    journal.retry()
    assert journal.claim(10) is not None


def test_a_retry_gives_new_attempts_to_what_killed_process_after_process(tmp_path):
    """Though nobody has found out yet that it failed for good."""
    journal = Journal(tmp_path)
    for number in range(1, 4):
        journal.append(number, "claimed", dead_owner() | {"step": 10})
    journal.retry()
    assert journal.claim(10) is not None
    journal.retry()  # of a claim that is alive: nothing
    assert journal.state() == "running"


def test_a_claim_from_the_future_is_void(tmp_path):
    """A clock was ahead when its owner died, and has been set right."""
    journal = Journal(tmp_path)
    assert journal.append(1, "claimed", owner() | {"host": "another machine"})
    later = time.time() + 3600
    os.utime(tmp_path / "000001.json", (later, later))
    assert journal.state() == "waiting"


def test_nothing_is_made_anew_where_a_sweep_was_moved(tmp_path):
    with pytest.raises(OutputError, match="cannot be written to"):
        Journal(tmp_path / "gone/claims/point").append(1, "claimed", owner())
    assert not (tmp_path / "gone").exists()


def test_the_choice_of_a_trial_is_never_given_up(tmp_path):
    """Whoever was killed while choosing: without it the search would wait for ever."""
    journal = Journal(tmp_path)
    for number in range(1, 6):
        journal.append(number, "claimed", dead_owner())
    assert journal.claim() is not None


@pytest.mark.parametrize("content", [b"[1]", b"3", b"\xff\xfe", b'{"state": 3}', b"[" * 100_000])
def test_a_damaged_entry_counts_as_one_that_was_cut_short(tmp_path, content):
    journal = Journal(tmp_path, expires_s=60)
    (tmp_path / "000001.json").write_bytes(content)
    assert journal.state() == "running"
    os.utime(tmp_path / "000001.json", (0, 0))
    assert journal.claim().settle(FAILED)
    assert journal.error() == ""


@pytest.mark.parametrize("pid", [None, "x", 2**70])
def test_a_claim_without_a_process_lives_by_its_heartbeat(tmp_path, pid):
    journal = Journal(tmp_path)
    journal.append(1, "claimed", owner() | {"pid": pid})
    assert journal.state() == "running"


def test_files_that_are_no_entries_are_left_alone(tmp_path):
    journal = Journal(tmp_path)
    assert journal.claim().settle(DONE)
    for name in ("._000001.json", "notes.json", "000009.json.bak"):
        (tmp_path / name).write_bytes(b"\xff")
    assert journal.state() == "done"
    assert [entry.number for entry in journal.entries()] == [1, 2]
