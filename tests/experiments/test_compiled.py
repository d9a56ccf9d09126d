"""Runs that differ in numbers alone share programs; all others, and those of own parts, do not."""

import jax
import numpy as np
import optax
import pytest

import hepcli
from hepcli.config import load_config
from hepcli.experiments.task import Task
from hepcli.settings import ACTIVATIONS, MEASURES, OPTIMIZERS

pytestmark = pytest.mark.usefixtures("small_data")
SAME_PROGRAM = (
    ("run.seed=7",),
    ("gradient.beta_radius=0.3",),
    ("optimizer.learning_rate=0.02",),
    ("network.initial_angle_deg=45.0",),
)
ANOTHER = (
    ("gradient.num_points=4",),
    ("homeostasis.weight=0.5",),
    ("run.epochs=9",),
    ("optimizer.momentum=0.5",),
    ("network.activation=tanh",),
    ("relaxation.free_steps=13",),
    ("run.matmul_precision=tensorfloat32",),
)


def task_of(small, *overrides):
    config = load_config("quickstart", (*small, "run.devices=1", *overrides)).config
    return Task(config), config


def step_of(small, *overrides):
    task, config = task_of(small, *overrides)
    return task.train_step([config])


def learned(small, *overrides):
    """Parameters after a step."""
    task, config = task_of(small, *overrides)
    batch = next(task.feed("train").batches([np.arange(config.data.batch_size)]))
    state, _ = task.train_step([config])(task.layout.replicate(task.fresh_state(config)), *batch)
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state.params)])


@pytest.mark.parametrize("overrides", SAME_PROGRAM)
def test_numbers_are_not_compiled_in(small, overrides):
    before, after = learned(small), learned(small, *overrides)
    assert not np.array_equal(before, after)  # they count all the same
    own, other = step_of(small), step_of(small, *overrides)
    assert own.func is other.func
    assert own.func._cache_size() == 1


def test_all_homeostasis_weights_but_none_share_a_program(small):
    programs = [step_of(small, f"homeostasis.weight={weight}").func for weight in (0.0, 0.5, 1.0)]
    assert programs[0] is not programs[1] is programs[2]


@pytest.mark.parametrize("overrides", ANOTHER)
def test_all_else_is(small, overrides):
    assert step_of(small).func is not step_of(small, *overrides).func


def test_other_sizes_of_a_data_set_are_other_programs(small):
    mini, whole = (step_of(small, f"data.name={name}") for name in ("fashion_mnist_mini", "cifar10"))
    assert mini.func is not whole.func


def test_evaluations_and_measures_are_shared_too(small):
    first, second = (task_of(small, f"run.seed={seed}") for seed in (0, 1))
    assert first[0].evaluator is second[0].evaluator
    meters = [task._compiled.meter(config.gradient) for task, config in (first, second)]
    assert meters[0] is meters[1]
    task, config = task_of(small, "gradient.beta_radius=0.3")  # a measure is of an estimator with its radius
    assert task._compiled.meter(config.gradient) is not meters[0]


def test_where_there_are_own_parts_nothing_is_shared(small):
    """Their names may stand for other functions by then."""

    def of_own_activation(scale):
        hepcli.register_activation("mine")(lambda z: scale * jax.numpy.tanh(z))
        try:
            return learned(small, "network.activation=mine")
        finally:
            del ACTIVATIONS["mine"]

    assert not np.array_equal(of_own_activation(1.0), of_own_activation(0.5))
    assert np.array_equal(learned(small), learned(small))


def test_own_parts_get_the_numbers_of_the_run(small):
    """As Python's own: they may be written for nothing else."""
    seen = []

    @hepcli.register_optimizer("noted")
    def noted(settings, decay):
        seen.append(settings.learning_rate)
        return optax.chain(decay, optax.identity())

    try:
        task, config = task_of(small, "optimizer.name=noted", "optimizer.learning_rate=0.25")
        learner = task.train_step([config]).func.__wrapped__.args[0]
        learner.build_optimizer(learner.fixed.learning_rate)
        assert learner.fixed == (0, config.gradient.beta_radius, 0.0, 0.25)
        assert set(seen) == {0.25}
    finally:
        del OPTIMIZERS["noted"]


def test_a_measure_that_was_registered_since_is_measured(small):
    task, config = task_of(small)
    before = task._compiled.meter(config.gradient)
    hepcli.register_measure("mine", title="mine")(lambda measured: measured.eigenvalue.real)
    try:
        assert task._compiled.meter(config.gradient) is not before
    finally:
        del MEASURES["mine"]
    assert task._compiled.meter(config.gradient) is before
