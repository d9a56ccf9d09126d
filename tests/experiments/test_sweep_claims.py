"""Claims: exclusive, alive by their heartbeat, taken over by exactly one."""

import multiprocessing
import os
import time

import pytest

from hepcli.experiments.sweeps.claims import (
    DONE,
    FAILED,
    RELEASED,
    Heart,
    Journal,
    owner,
)

FORK = multiprocessing.get_context("spawn")


def grab(folder, number, start, won):
    """Claim as many of the points as can be had."""
    start.wait()
    for point in range(number):
        if Journal(folder / str(point)).claim() is not None:
            won.put((point, os.getpid()))
    won.put(None)
    time.sleep(30)  # its claims live as long as it does


def dead_owner():
    process = FORK.Process(target=time.sleep, args=(0,))
    process.start()
    process.join()
    return owner() | {"pid": process.pid}


@pytest.mark.parametrize("stale", [False, True], ids=["fresh", "taken over"])
def test_processes_that_race_never_share_a_point(tmp_path, stale):
    number, racers = 60, 3
    if stale:
        dead = dead_owner()
        for point in range(number):
            assert Journal(tmp_path / str(point)).append(1, "claimed", dead)
    start, won = FORK.Event(), FORK.Queue()
    processes = [FORK.Process(target=grab, args=(tmp_path, number, start, won)) for _ in range(racers)]
    for process in processes:
        process.start()
    start.set()
    claims, finished = [], 0
    while finished < racers:
        item = won.get(timeout=60)
        finished += item is None
        claims += [] if item is None else [item[0]]
    for process in processes:
        process.kill()
        process.join()
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
    assert journal.claim() is not None
