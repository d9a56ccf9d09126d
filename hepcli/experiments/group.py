"""Training: runs at the same step go through their epochs together, one alone or several in one program."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from hepcli.checkpoints import CheckpointStore
from hepcli.errors import CheckpointError, HepError
from hepcli.experiments.devices import with_devices
from hepcli.experiments.evaluated import Evaluated, evaluate_runs, stack
from hepcli.experiments.processes import failed_elsewhere
from hepcli.experiments.records import BatchDone, TrainEvent
from hepcli.experiments.request import TrainRequest, open_request
from hepcli.experiments.run import Run
from hepcli.experiments.task import Task
from hepcli.experiments.timing import EpochTime
from hepcli.training import EvaluationStopped, Layout, TrainState, check_finite, epoch_steps


class MemberRecord(NamedTuple):
    """A record of one of the runs, by its place in the requests; an error ends that run alone."""

    number: int
    record: TrainEvent | HepError


class Member(NamedTuple):
    """A run of a group, its place in the requests, and where it is saved."""

    number: int
    run: Run
    store: CheckpointStore


def train_together(
    requests: Sequence[TrainRequest], stop: Callable[[], bool] = lambda: False
) -> Iterator[MemberRecord]:
    """Train several runs at once, each into its own folder and to rounding as it would train alone.

    Args:
        requests: what to train and where; the configurations differ only in numbers that are no shapes,
            seeds among them.
        stop: asked after every step; True saves and ends all runs.

    Yields:
        Records of each run, its last one `Finished`, `Interrupted` or an error. `BatchDone` is told for the
        first run alone.
    """
    task: Task | None = None
    members: list[Member] = []
    with ExitStack() as stack:
        for number, request in enumerate(requests):
            try:
                resolved, folder = open_request(request)
                task = task or Task(resolved.config, request.data_dir, Layout(jax.local_devices()[:1]))
                task.check_devices()
                resolved = with_devices(resolved, 1, "this machine")
                run = Run(resolved.config, folder, request.data_dir, task, request.figure_format)
                stack.enter_context(folder.claimed())
                if not request.resume:
                    folder.create(resolved)
                store = stack.enter_context(run.open_store())
                stack.callback(run.end_tracking)
                yield MemberRecord(number, run.restore(store) if request.resume else run.start(store))
                members.append(Member(number, run, store))
            except HepError as error:
                yield MemberRecord(number, error)
        for group in _aligned(members):
            for part in _parts(group):
                yield from Group(part).train(stop)


def _parts(group: Sequence[Member]) -> list[Sequence[Member]]:
    """Runs in parts of like size whose programs fit the memory, one after the other."""
    number = -(-len(group) // group[0].run.task.runs_that_fit(len(group)))
    size = -(-len(group) // number)
    return [group[start : start + size] for start in range(0, len(group), size)]


def _aligned(members: Sequence[Member]) -> list[list[Member]]:
    """Split runs into groups that are at the same step.

    Runs that were killed together were saved one after the other, and so may be a save apart: those ahead
    by an epoch at most go back, where they still have the checkpoint.
    """
    groups: list[list[Member]] = []
    for member in sorted(members, key=lambda m: m.run.step):
        if groups and _go_back(member, groups[-1][0].run):
            groups[-1].append(member)
        else:
            groups.append([member])
    return groups


def _go_back(member: Member, leader: Run) -> bool:
    step = leader.step
    if member.run.step != step:
        if member.run.step - step > member.run.num_batches or step not in member.store.steps():
            return False
        try:
            member.run.restore(member.store, step)
        except CheckpointError:
            return False  # that step is damaged: the run stays where it is
    return len(member.run.history) == len(leader.history)  # else one of them was not evaluated there


_LONG_EPOCH_S = 120.0
"""From which on an epoch is saved before it is evaluated, too: a batch system may kill what is busy."""


class Group:
    """Runs at the same step; the states of several are stacked.

    A run that diverges, or is over before the others, stays in the stack, where it harms none, but nothing
    more of it is kept.

    Args:
        members: the runs, at least one.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)
        self.errors: dict[int, HepError] = {}  # by place in `members`
        self._finished: set[int] = set()
        first = members[0].run
        self.first, self.step = first, first.step
        self._latest: TrainState | None = None
        self.train_step = first.task.train_step([member.run.config for member in members])

    def train(self, stop: Callable[[], bool]) -> Iterator[MemberRecord]:
        """Train until all are done, diverged or stopped."""
        epochs, num_batches = self.first.config.run.epochs, self.first.num_batches
        yield from self._finish_those_over()
        for epoch in range(len(self.first.history), epochs):
            if self._all_ended:
                break
            started = time.perf_counter()
            first_batch = self.step - epoch * num_batches  # all, where it was stopped while evaluating
            for batch in self._batches(epoch, first_batch):
                yield MemberRecord(self.members[0].number, BatchDone(epoch + 1, batch, num_batches))
                if batch < num_batches and (stop() or self._all_ended):
                    self._hand_back()
                    yield from self._end(lambda member: member.run.interrupt(member.store))
                    return
            self._hand_back()
            images = (num_batches - first_batch) * self.first.config.data.batch_size
            seconds = time.perf_counter() - started
            taken = EpochTime(seconds, images / seconds, first_batch == 0, len(self.members))
            was_saved = first_batch == num_batches
            if seconds > _LONG_EPOCH_S and not was_saved:
                list(self._each(lambda member: member.run.save(member.store)))
                was_saved = True
            try:
                evaluated = self._evaluated(stop)
            except EvaluationStopped:
                yield from self._end(lambda member: member.run.interrupt(member.store))
                return
            except jax.errors.JaxRuntimeError:  # such as of memory: what is trained is kept
                list(self._each(lambda member: member.run.interrupt(member.store)))
                raise
            try:
                yield from self._each(
                    lambda member: member.run.finish_epoch(
                        member.store,
                        epoch + 1,  # noqa: B023
                        evaluated[member.number],  # noqa: B023
                        taken,  # noqa: B023
                        was_saved=was_saved,  # noqa: B023
                    )
                )
            except Exception:  # of one run that measures: what the others trained is kept, too
                list(self._each(lambda member: member.run.keep(member.store)))
                raise
            self._ask_others()
            yield from self._finish_those_over()
            if not self._all_ended and stop():
                yield from self._end(lambda member: member.run.interrupt(member.store))
                return
        yield from self._failed()

    def _evaluated(self, stop: Callable[[], bool]) -> dict[int, Evaluated]:
        """The runs that go on, evaluated, by their places in the requests."""
        going = [member for place, member in enumerate(self.members) if self._goes_on(place)]
        if not going:
            return {}
        found = evaluate_runs([member.run for member in going], stop)
        return {member.number: own for member, own in zip(going, found, strict=True)}

    def _finish_those_over(self) -> Iterator[MemberRecord]:
        """Finish the runs that have nothing left to train."""
        for place, member in enumerate(self.members):
            if self._goes_on(place) and member.run.is_over:
                result = self._attempt(place, lambda member: member.run.finish(member.store))
                if place not in self.errors:
                    self._finished.add(place)
                    yield MemberRecord(member.number, result)

    def _goes_on(self, place: int) -> bool:
        return place not in self.errors and place not in self._finished

    @property
    def _all_ended(self) -> bool:
        return not any(map(self._goes_on, range(len(self.members))))

    def _batches(self, epoch: int, first_batch: int) -> Iterator[int]:
        """Run the rest of an epoch; saves every `every_steps` steps."""
        config, num_batches = self.first.config, self.first.num_batches
        every = config.checkpoints.every_steps
        orders = [member.run.order(epoch) for member in self.members]
        states = [member.run.state for member in self.members]
        is_alone = len(self.members) == 1
        for done in epoch_steps(
            self.train_step,
            states[0] if is_alone else stack(states),
            self.first.task.feed("train"),
            orders[0] if is_alone else np.stack(orders),
            config.data.batch_size,
            first_batch,
            self._check,
        ):
            self.step = epoch * num_batches + done.batch
            saves = every and self.step % every == 0 and done.batch < num_batches
            self._latest = done.state
            if saves:
                self._hand_back()
                list(self._each(lambda member: member.run.save(member.store)))
                self._ask_others()
            yield done.batch

    def _ask_others(self) -> None:
        """Of several processes that train the one run: end it where another could not save or record it."""
        error = failed_elsewhere(bool(self.errors))
        if error is not None:
            self.errors.setdefault(0, error)

    def _check(self, step: int, losses: Array) -> None:
        """Note the runs whose loss left the finite numbers."""
        own = np.atleast_1d(jax.device_get(losses))
        for place in np.flatnonzero(~np.isfinite(own)):
            self._attempt(int(place), lambda _: check_finite(step, own[place]))  # noqa: B023

    def _hand_back(self) -> None:
        """Give each run its part of the state, which the next step donates."""
        if self._latest is None:  # no step was run since they were restored
            return
        if len(self.members) == 1:
            self.first.state, self.first.step = self._latest, self.step
            return
        for place, member in enumerate(self.members):
            member.run.state = jax.tree.map(lambda leaf: leaf[place], self._latest)  # noqa: B023
            member.run.step = self.step

    def _end(self, act: Callable[[Member], TrainEvent]) -> Iterator[MemberRecord]:
        """The last record of every run that goes on: of `act`; and of those that failed."""
        yield from self._each(act)
        yield from self._failed()

    def _failed(self) -> Iterator[MemberRecord]:
        for place, error in self.errors.items():
            yield MemberRecord(self.members[place].number, error)

    def _each(self, act: Callable[[Member], Any]) -> Iterator[MemberRecord]:
        """Apply to every run that goes on; an error takes that run out."""
        for place, member in enumerate(self.members):
            if not self._goes_on(place):
                continue
            result = self._attempt(place, act)
            if place not in self.errors:
                yield MemberRecord(member.number, result)

    def _attempt(self, place: int, act: Callable[[Member], Any]) -> Any:
        if not self._goes_on(place):
            return None
        try:
            return act(self.members[place])
        except HepError as error:
            self.errors[place] = error
            return None
