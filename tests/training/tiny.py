"""A network and a data set small enough to train on in a test."""

from functools import partial

import jax.numpy as jnp
import numpy as np

from hepcli.settings import GradientSettings, HomeostasisSettings, OptimizerSettings, RelaxationSettings
from hepcli.training import (
    Feed,
    Layout,
    LearningSettings,
    RunNumbers,
    build_optimizer,
    init_state,
    make_step_program,
)
from tests.dense import dense_network

NETWORK = dense_network(
    (("l1", 5), ("out", 4)), (("in", "l1"), ("l1", "out"), ("out", "l1")), input_size=4, num_classes=3
)
RELAXATION = RelaxationSettings("alternating", free_steps=20, nudged_steps=10)
SGD = OptimizerSettings("sgd", 0.1, "constant", 0.9, False, 0.0, {}, {})


def params():
    """The same parameters every time, in new buffers: a step takes those of its state."""
    rng = np.random.default_rng(0)
    sizes = {"in-l1": (4, 5), "l1-out": (5, 4), "out-l1": (4, 5), "readout": (4, 3)}
    tree = {
        name: {"kernel": jnp.asarray(0.4 * rng.standard_normal(shape), jnp.float32)}
        for name, shape in sizes.items()
    }
    for name in ("in-l1", "l1-out", "readout"):
        tree[name]["bias"] = jnp.full(sizes[name][1], 0.1, jnp.float32)
    return tree


def split(examples=10):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (examples, 2, 2, 1)).astype(np.uint8)
    return jnp.asarray(images), jnp.asarray(rng.integers(0, 3, examples).astype(np.int32))


def feed(examples=10, resident=True, first=None):
    """All examples, or the first of them, on the device or streamed."""
    return Feed(*(np.asarray(part)[:first] for part in split(examples)), Layout(), resident)


def batch(examples, rows=None):
    """The first examples, or those of `rows`, of ten."""
    return next(feed(10).batches([np.arange(examples) if rows is None else rows]))


def learning(method="hep", weight=0.0) -> LearningSettings:
    return LearningSettings(RELAXATION, GradientSettings(method), HomeostasisSettings(weight, 2))


def make_step(settings, optimizer=SGD, seed=0, **options):
    """The step of a run, with its numbers from the settings."""
    radius, weight, rate = settings.gradient.beta_radius, settings.homeostasis.weight, optimizer.learning_rate
    build = partial(build_optimizer, optimizer, 10)
    program = make_step_program(NETWORK, 3, settings, build, **options)
    return partial(program, RunNumbers(jnp.uint32(seed), *map(jnp.float32, (radius, weight, rate))))


def start(optimizer_settings=SGD):
    return init_state(params(), build_optimizer(optimizer_settings, 10))
