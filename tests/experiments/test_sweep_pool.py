"""How workers share a machine."""

import pytest

from hepcli.config import check_sweep
from hepcli.experiments.sweeps.folder import SweepFolder
from hepcli.experiments.sweeps.joining import join
from hepcli.experiments.sweeps.plan import Plan
from hepcli.experiments.sweeps.points import expand
from hepcli.experiments.sweeps.pool import cpus_of, device_variables, idle_notice, visible_devices
from hepcli.experiments.sweeps.watch import Watch


@pytest.mark.parametrize(
    ("jobs", "cpus", "shares"),
    [
        (1, [0, 1], [[]]),
        (2, [0, 1], [[0], [1]]),
        (2, [0, 1, 2, 5, 6], [[0, 1], [2, 5, 6]]),
        (3, [0, 1], [[0], [1], [0]]),
        (2, [], [[], []]),
    ],
)
def test_processors_are_divided(jobs, cpus, shares):
    assert [cpus_of(index, jobs, cpus) for index in range(jobs)] == shares


def test_devices_are_divided(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-a")
    devices = visible_devices()
    assert devices == ["2", "GPU-a"]
    named = [device_variables(index, 3, devices) for index in range(3)]
    assert [one["CUDA_VISIBLE_DEVICES"] for one in named] == ["2", "GPU-a", "2"]
    assert all(one["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false" for one in named)
    assert device_variables(0, 1, ["0"]) == {}
    assert idle_notice(1, devices) == "1 of 2 GPUs is used. Use --jobs 2 for all."
    assert idle_notice(2, devices) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_devices() == []


class Gone:
    """A pool whose workers were asked to end by somebody else, and did."""

    alive = False

    def tend(self, progressed):
        return True


def test_a_sweep_whose_workers_were_ended_does_not_wait_for_ever(tmp_path):
    axis = [{"name": "a", "key": "run.epochs", "values": [1, 2]}]
    definition = check_sweep({"sweep": {"preset": "quickstart"}, "axis": axis}, "test")
    points = expand(definition)
    join(SweepFolder(tmp_path), definition, points)
    watch = Watch(Plan(tmp_path, definition, points, points))
    records = list(watch.until_over(Gone(), lambda: False, fail_fast=False))
    assert len(records) == 2
    assert not watch.is_over
