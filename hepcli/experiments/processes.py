"""Several processes that train one run: joining them, and acting so that none waits for one that failed."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax

from hepcli.errors import ConfigError, HepError, ProcessError
from hepcli.training import all_agree, same_everywhere

_ADVICE = (
    "Start it with srun or mpirun, or give every process JAX_COORDINATOR_ADDRESS=HOST:PORT, "
    "JAX_NUM_PROCESSES and JAX_PROCESS_ID."
)
_STEPS_BETWEEN_QUESTIONS = 16


@contextmanager
def joined_processes() -> Iterator[None]:
    """Join the processes of this run; before anything else of JAX is used.

    JAX finds Slurm and Open MPI itself; elsewhere JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
    JAX_PROCESS_ID say who takes part.

    Raises:
        ConfigError: they do not say, or the others cannot be reached.
    """
    count, own = _from_environment("JAX_NUM_PROCESSES"), _from_environment("JAX_PROCESS_ID")
    try:
        jax.distributed.initialize(num_processes=count, process_id=own, local_device_ids=_own_devices())
    except (ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ConfigError(f"--distributed: {reason}.", _ADVICE) from error
    with _chatter_to_stderr():
        yield
        # Not after an error: it would wait for processes that may be waiting for this one.
        jax.distributed.shutdown()  # type: ignore[no-untyped-call]


def _own_devices() -> list[int] | None:
    """All GPUs that a task of Slurm sees, where each sees its own (--gpus-per-task); else None.

    JAX would take the one with the task's number on the node, which such a task does not see.
    """
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    number = os.environ.get("SLURM_LOCALID", "")
    sees_its_own = "SLURM_GPUS_PER_TASK" in os.environ or (number.isdecimal() and int(number) >= len(visible))
    return list(range(len(visible))) if visible and number and sees_its_own else None


@contextmanager
def _chatter_to_stderr() -> Iterator[None]:
    """Gloo, which connects CPUs, writes to stdout, where only results belong."""
    sys.stdout.flush()
    results = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(results, 1)
        os.close(results)


def _from_environment(variable: str) -> int | None:
    text = os.environ.get(variable)
    if text is not None and not text.isdecimal():
        raise ConfigError(f"{variable} = {text}: must be a whole number.", _ADVICE)
    return None if text is None else int(text)


def is_first() -> bool:
    """Whether this process writes and speaks for all; asking does not start JAX."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def in_every_process(act: Callable[[], object]) -> None:
    """Act, and go on only if that worked in every process.

    Raises:
        ProcessError: it failed in another process.
    """
    failed: HepError | None = None
    try:
        act()
    except HepError as error:
        failed = error
    elsewhere = failed_elsewhere(failed is not None)
    if failed is not None or elsewhere is not None:
        raise failed or elsewhere  # type: ignore[misc]


def failed_elsewhere(failed: bool) -> ProcessError | None:
    """Tell the others whether this process has failed; an error where only another one has.

    Asked by all of them at the same place, so that none goes on to wait for one that has ended.
    """
    if all_agree(not failed) or failed:
        return None
    return ProcessError("Another process of this run failed.", "See the output of that process.")


def check_same_step(step: int) -> None:
    """Check that every process restored the same step.

    Raises:
        ProcessError: they see different checkpoints.
    """
    if not same_everywhere(step):
        raise ProcessError(
            f"The processes of this run see different checkpoints; this one is at step {step}.",
            "Give all of them the same --out on a file system they share.",
        )


def agreed(stop: Callable[[], bool]) -> Callable[[], bool]:
    """A question that every process answers alike: whether any of them was asked to stop.

    Asked after every step, in step; the processes exchange their answers every few of them.
    """
    if jax.process_count() == 1:
        return stop
    asked = 0

    def any_stops() -> bool:
        nonlocal asked
        asked += 1
        return asked % _STEPS_BETWEEN_QUESTIONS == 0 and not all_agree(not stop())

    return any_stops
