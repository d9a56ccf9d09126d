"""Workers on this machine: subprocesses that share its processors and devices."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

_MOST_DEATHS = 3  # of each worker: a run that fails may take its worker with it

# -P: no file of the working folder takes the place of a module.
WORKER = (sys.executable, "-P", "-m", "hepcli", "sweep-worker")


class PoolSettings(NamedTuple):
    """How workers are started.

    Attributes:
        jobs: how many at a time.
        arguments: of `hep sweep-worker`, the folder among them.
        log_folder: where their output goes.
    """

    jobs: int
    arguments: Sequence[str]
    log_folder: Path


class Pool:
    """Keeps `jobs` workers alive until they end by themselves.

    Args:
        settings: how many, and what they do.
    """

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._deaths = 0
        for index in range(settings.jobs):
            self._start(index)

    @property
    def alive(self) -> bool:
        """Whether a worker is running."""
        return any(process.poll() is None for process in self._processes.values())

    def tend(self, progressed: bool) -> bool:
        """Replace workers that died.

        Args:
            progressed: whether a point was done or failed since the last call: deaths before it are
                forgotten.

        Returns:
            False once workers keep dying without any progress between.
        """
        self._deaths = 0 if progressed else self._deaths
        for index, process in list(self._processes.items()):
            if process.poll() in (None, 0):
                continue
            self._deaths += 1
            if self._deaths > _MOST_DEATHS * self._settings.jobs:
                return False
            self._start(index)
        return True

    def terminate(self) -> None:
        """Ask all workers to save and end."""
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.terminate()

    def _start(self, index: int) -> None:
        self._settings.log_folder.mkdir(parents=True, exist_ok=True)
        command = [*WORKER, *self._settings.arguments, "--parent", str(os.getpid())]
        cpus = cpus_of(index, self._settings.jobs, available_cpus())
        if cpus:
            command += ["--cpus", ",".join(map(str, cpus))]
        environment = os.environ | device_variables(index, self._settings.jobs, visible_devices())
        with self._log(index) as log:
            self._processes[index] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )

    def _log(self, index: int) -> IO[bytes]:
        return (self._settings.log_folder / f"worker-{os.getpid()}-{index}.log").open("ab")


def available_cpus() -> list[int]:
    """The processors this process may use; none where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def cpus_of(index: int, jobs: int, cpus: Sequence[int]) -> list[int]:
    """The share of a worker in the processors: equal parts, or one each in turn where they are fewer.

    Args:
        index: of the worker, from 0.
        jobs: number of workers.
        cpus: processors there are.

    Returns:
        Its processors; none for a single worker, which needs no limit.
    """
    if jobs == 1 or not cpus:
        return []
    if jobs >= len(cpus):
        return [cpus[index % len(cpus)]]
    return list(cpus[index * len(cpus) // jobs : (index + 1) * len(cpus) // jobs])


def visible_devices() -> list[str]:
    """The names of the NVIDIA devices that this process may use."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    with suppress(OSError):
        return [str(index) for index in range(len(os.listdir("/proc/driver/nvidia/gpus")))]
    return []


def idle_notice(jobs: int, devices: Sequence[str]) -> str | None:
    """What to say where there are more NVIDIA devices than workers, each of which takes one."""
    if jobs >= len(devices):
        return None
    used = f"{jobs} of {len(devices)} GPUs {'is' if jobs == 1 else 'are'} used"
    return f"{used}. Use --jobs {len(devices)} for all."


def device_variables(index: int, jobs: int, devices: Sequence[str]) -> Mapping[str, str]:
    """Environment variables that give a worker one device, and share its memory where it must."""
    variables = {}
    if len(devices) > 1:
        variables["CUDA_VISIBLE_DEVICES"] = devices[index % len(devices)]
    if devices and jobs > len(devices):
        variables["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    return variables
