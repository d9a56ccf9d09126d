"""The function behind `hep train`: one run, from configuration to summary."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

from hepcli.errors import HepError
from hepcli.experiments.devices import check_devices, idle_notice, with_devices
from hepcli.experiments.group import Group, Member
from hepcli.experiments.processes import agreed, check_same_step, in_every_process, is_first
from hepcli.experiments.records import BatchDone, EpochDone, Finished, Interrupted, RunStarted, TrainEvent
from hepcli.experiments.request import TrainRequest, open_request
from hepcli.experiments.run import Run
from hepcli.experiments.task import Task

__all__ = [
    "BatchDone",
    "EpochDone",
    "Finished",
    "Interrupted",
    "RunStarted",
    "TrainEvent",
    "TrainRequest",
    "train",
]


def train(request: TrainRequest, stop: Callable[[], bool] = lambda: False) -> Iterator[TrainEvent]:
    """Train a network, or continue a run.

    Args:
        request: what to train and where.
        stop: asked after every step; True saves and ends the run.

    Yields:
        Records of the run's progress, the last one `Finished` or `Interrupted`.

    Raises:
        ConfigError: settings that are not allowed, or that differ from those of the run to resume.
        DatasetError: the data set is missing or damaged.
        CheckpointError: there is nothing intact to resume from, or to take weights from.
        CodeError: a file with own components is missing, has changed or cannot be loaded.
        OutputError: the folder holds a run, is in use, or cannot be written.
        DivergenceError: the loss left the finite numbers.
        ProcessError: of several processes, another one failed.
    """
    resolved, folder = open_request(request)
    folder.writes = is_first()
    task = Task(resolved.config, request.data_dir)
    idle = None
    if not request.resume:
        check_devices(resolved.config)
        idle = idle_notice(resolved.config, task.layout.num_devices)
        resolved = with_devices(resolved, task.layout.num_devices, "this machine")
    task.check_devices()
    in_every_process(task.open_splits)  # where one lacks them the others must not wait for it
    run = Run(resolved.config, folder, request.data_dir, task, request.figure_format)
    stop = agreed(stop)
    with ExitStack() as stack:
        in_every_process(lambda: stack.enter_context(folder.claimed()))
        if not request.resume:
            in_every_process(lambda: folder.create(resolved))
        store = stack.enter_context(run.open_store())
        stack.callback(run.end_tracking)
        begun: list[RunStarted] = []
        if request.resume:
            in_every_process(lambda: begun.append(run.restore(store)))
            check_same_step(run.step)
            in_every_process(lambda: folder.change_config(resolved))  # such as more epochs
        else:
            in_every_process(lambda: begun.append(run.start(store)))
        yield from (each._replace(notices=each.notices + ((idle,) if idle else ())) for each in begun)
        for _, record in Group([Member(0, run, store)]).train(stop):
            if isinstance(record, HepError):
                raise record
            yield record
