"""Workers as a Slurm job array, through submitit."""

import difflib
import os
import shlex
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any, NamedTuple

from hepcli.config import split_outside
from hepcli.errors import ConfigError, SweepError
from hepcli.experiments.sweep import prepare, worker_arguments
from hepcli.experiments.sweeps.definition import SweepRequest
from hepcli.experiments.sweeps.plan import plan
from hepcli.experiments.sweeps.pool import WORKER

_EXAMPLE = "Write --slurm partition=gpu,time=120,cpus_per_task=8 (time in minutes)."

_WARNING_S = 120  # between Slurm's signal and the end of a job: time to finish a step and save
_INTERRUPTED = 130
_IN_LISTS: Mapping[str, Callable[[str], list[str]]] = {
    "setup": lambda command: [command],
    "teardown": lambda command: [command],
    "srun_args": shlex.split,
}


class Submitted(NamedTuple):
    """Numbers of the jobs, the command that tabulates what they come to, and what the user should know."""

    jobs: list[str]
    report: str
    notes: tuple[str, ...] = ()


class SlurmWorker:
    """What a job of the array runs: a worker that joins the sweep folder.

    Args:
        arguments: of `hep sweep-worker`, the folder among them.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = tuple(arguments)
        self._process: subprocess.Popen[bytes] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_arguments": self._arguments, "_process": None}

    def __call__(self, index: int) -> int:
        """Work until nothing is left, whatever the place in the array.

        Raises:
            SweepError: the worker broke down.
        """
        command = [*WORKER, "--no-wait", *self._arguments]
        self._process = subprocess.Popen(command)
        status = self._process.wait()
        if status not in (0, _INTERRUPTED):
            raise SweepError(f"The worker ended with status {status}.", "See the output of this job.")
        return index

    def checkpoint(self, index: int) -> Any:
        """Before the time limit or a preemption: have the worker save, and queue the job again.

        submitit calls this from a signal handler, in the middle of the `wait` of `__call__`.
        """
        import submitit

        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.terminate()
            with suppress(ChildProcessError):  # that `wait` has noticed its end
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)  # takes no lock, unlike wait
        return submitit.helpers.DelayedSubmission(self, index)


def submit(request: SweepRequest, options: str) -> Submitted:
    """Submit `jobs` workers that join the sweep folder, and return at once.

    A worker that Slurm stops saves, releases what it holds and is queued again by submitit.

    Args:
        request: what to run and where.
        options: `key=value,…` for `sbatch`, with the names submitit gives them.

    Returns:
        The jobs, and what to type next.

    Raises:
        ConfigError: options that are not allowed, or whatever is wrong with the sweep.
        SweepError: submitit or Slurm is not installed, or refuses.
    """
    settings = parse_options(options)
    if find_spec("submitit") is None:
        raise SweepError(
            "--slurm needs submitit, which is not installed.", 'Run: python -m pip install "hepcli[slurm]"'
        )
    from submitit.slurm.slurm import SlurmExecutor

    if SlurmExecutor.affinity() < 0:
        raise SweepError(
            "--slurm found no srun: Slurm is not installed here.",
            "Run the command on a login node, or leave out --slurm to use workers on this machine.",
        )
    own = _for_submitit(settings, SlurmExecutor._valid_parameters())
    planned = plan(request)
    defaults = {"job_name": planned.folder.name, "signal_delay_s": _WARNING_S}
    executor = SlurmExecutor(folder=str(planned.folder / "logs"))
    with _refusals():
        executor.update_parameters(**(defaults | own))
    prepare(request, planned)
    worker = SlurmWorker(worker_arguments(planned.folder, request))
    with _refusals():
        jobs = executor.map_array(worker, range(request.jobs))
    chosen = request.figure_format
    of_format = [] if chosen == "png" else ["--format", chosen]
    report = shlex.join(["hep", "sweep", "--report", str(planned.folder), *of_format])
    return Submitted([job.job_id for job in jobs], report, planned.notes)


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what submitit and Slurm raise into errors of ours."""
    from submitit.core.utils import FailedJobError

    try:
        yield
    except (TypeError, ValueError, FailedJobError) as error:
        reason = str(error).partition("\n")[0]
        raise SweepError(f"Slurm refused: {reason}", _EXAMPLE) from error


def parse_options(text: str) -> dict[str, Any]:
    """Read `key=value,…`; whole numbers become numbers, commas in quotes or brackets separate nothing.

    Raises:
        ConfigError: it is not of that form.
    """
    settings: dict[str, Any] = {}
    for part in split_outside(text, ","):
        key, equals, value = (word.strip() for word in part.partition("="))
        if not key.isidentifier() or not equals or not value:
            raise ConfigError(f"--slurm {text}: {part or 'an empty part'} is not KEY=VALUE.", _EXAMPLE)
        is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
        is_number = not is_quoted and value.isdecimal() and str(int(value)) == value  # 00123 is a name
        settings[key] = int(value) if is_number else value[1:-1] if is_quoted else value
    return settings


def _for_submitit(settings: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Options as submitit takes them; those that it does not name are passed to sbatch as they are.

    Raises:
        ConfigError: one is all but the name of another.
    """
    for key in settings.keys() - set(known):
        if near := difflib.get_close_matches(key, known, n=1, cutoff=0.85):
            raise ConfigError(f"--slurm {key}=…: did you mean {near[0]}?", _EXAMPLE)
    named = {key: value for key, value in settings.items() if key in known}
    named |= {key: _IN_LISTS[key](str(value)) for key, value in named.items() if key in _IN_LISTS}
    others = {key: value for key, value in settings.items() if key not in known}
    return named | ({"additional_parameters": others} if others else {})
