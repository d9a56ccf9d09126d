"""Workers as a Slurm job array, through submitit."""

import shlex
import sys
from importlib.util import find_spec
from typing import Any

from hepcli.errors import ConfigError, SweepError
from hepcli.experiments.sweep import SweepRequest, prepare, worker_arguments

_EXAMPLE = "Write --slurm partition=gpu,time=120,cpus_per_task=8 (time in minutes)."


def submit(request: SweepRequest, options: str) -> list[str]:
    """Submit `jobs` workers that join the sweep folder, and return at once.

    A worker that Slurm stops at its time limit or preempts saves and releases what it holds; the same
    command given again goes on.

    Args:
        request: what to run and where.
        options: `key=value,…` for `sbatch`, with the names submitit gives them.

    Returns:
        Lines for the user: the jobs and what to type next.

    Raises:
        ConfigError: options that are not allowed, or whatever is wrong with the sweep.
        SweepError: submitit or Slurm is not installed, or refuses.
    """
    settings = parse_options(options)
    if find_spec("submitit") is None:
        raise SweepError("--slurm needs submitit, which is not installed.", 'pip install "hepcli[slurm]"')
    import submitit
    from submitit.slurm.slurm import SlurmExecutor

    if SlurmExecutor.affinity() < 0:
        raise SweepError(
            "--slurm found no srun: Slurm is not installed here.",
            "Give the command on a login node, or leave out --slurm for workers on this machine.",
        )
    planned = prepare(request)
    executor = SlurmExecutor(folder=str(planned.folder / "logs"))
    try:
        executor.update_parameters(
            **{"job_name": planned.folder.name, "signal_delay_s": 120, **settings},
        )
        command = [sys.executable, "-m", "hepcli", "sweep-worker", "--no-wait"]
        worker = submitit.helpers.CommandFunction([*command, *worker_arguments(planned.folder, request)])
        jobs = executor.map_array(lambda _: worker(), range(request.jobs))
    except (ValueError, submitit.core.utils.FailedJobError) as error:
        raise SweepError(f"Slurm refused: {error}", _EXAMPLE) from error
    report = shlex.join(["hep", "sweep", "--report", str(planned.folder)])
    return [*(f"job {job.job_id}" for job in jobs), f"report: {report}"]


def parse_options(text: str) -> dict[str, Any]:
    """Read `key=value,…`; whole numbers become numbers.

    Raises:
        ConfigError: it is not of that form.
    """
    settings: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = (word.strip() for word in part.partition("="))
        if not key.isidentifier() or not equals or not value:
            raise ConfigError(f"--slurm {text}: {part or 'an empty part'} is not KEY=VALUE.", _EXAMPLE)
        settings[key] = int(value) if value.isdecimal() else value
    return settings
