"""The convolutional network at full width: every number computed with the method's published code."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.engine import (
    Problem,
    activities,
    estimate,
    free_phase,
    homeostatic_gradient,
    log10_residual,
    summed_gradient,
)
from hepcli.networks import weight_angle_deg
from hepcli.settings import ESTIMATORS, GradientSettings, RelaxationSettings

from .cases import mean_of, on_arrays
from .conv_cases import conv, conv_network
from .reference import FOLDER
from .test_reference import nested, second, settings_of

LIMIT = 1e-6
NAMES = "in-conv1 conv1-conv2 conv2-conv1 conv2-conv3 conv3-conv2 conv3-out out-conv3"
NETWORK = conv_network(
    (
        ("conv1", conv(128)),
        ("conv2", conv(256)),
        ("conv3", conv(512)),
        ("out", conv(512, padding="valid")),
    ),
    NAMES.split(),
    (32, 32, 3),
    num_classes=10,
)
STORED = json.loads((FOLDER / "conv.json").read_text())
META = STORED.pop("meta")


def drawn():
    """Parameters, batch and homeostasis noise, in the order of the published draw."""
    rng = np.random.RandomState(META["seed"])
    channels = {"in": 3, "conv1": 128, "conv2": 256, "conv3": 512, "out": 512}
    params = {}
    for name in NAMES.split():
        lower, upper = sorted(name.split("-"), key=list(channels).index)
        size = (3, 3, channels[lower], channels[upper])
        params[name] = {"kernel": META["gain"] * rng.randn(*size) / np.sqrt(9 * channels[lower])}
        if name == f"{lower}-{upper}":
            params[name]["bias"] = 0.1 * rng.randn(channels[upper])
    params["readout"] = {"kernel": rng.randn(512, 10) / np.sqrt(512), "bias": 0.1 * rng.randn(10)}
    images = rng.randn(META["batch"], 32, 32, 3)
    targets = np.eye(10)[rng.randint(0, 10, META["batch"])]
    shapes = NETWORK.unit_shapes
    noise = {name: rng.randn(META["batch"], *shapes[name])[None] for name in META["state_order"]}
    return jax.tree.map(jnp.asarray, (params, images, targets, noise))


@functools.cache
def ours():
    """Our value of everything in the file, by its name there."""
    params, images, targets, noise = drawn()
    # The published phases are converged; stopping where nothing moves any more spares half the time.
    relaxation = RelaxationSettings(
        "synchronous", free_steps=META["free_steps"], nudged_steps=META["nudge_steps"], tolerance=1e-13
    )
    problem = Problem(NETWORK, params, images, targets, relaxation, GradientSettings("hep"))

    def measure(problem):
        free = free_phase(problem)
        state, activity = free.phase.state, activities(problem, free.phase.state)
        found = nested("params", problem.params) | nested("free/state", state)
        found["free/output"] = NETWORK.output(problem.params, activity["out"])
        found["free/log10_residual"] = log10_residual(free.phase.residual)
        for key in second("error_signal", STORED):
            settings = settings_of(key)
            vector, _ = ESTIMATORS[settings.method].error_signal(
                free._replace(problem=problem._replace(gradient=settings))
            )
            found |= nested(f"error_signal/{key}", vector)
            if key == "exact":
                found |= nested(
                    "gradient/hep_exact", mean_of(summed_gradient(problem, state, vector), problem)
                )
        bptt = problem._replace(gradient=GradientSettings("bptt"))
        found |= nested("gradient/bptt", estimate(bptt).gradient)
        loss, gradient = homeostatic_gradient(NETWORK, problem.params, problem.inputs, activity, noise)
        found |= {"homeostasis/loss": loss} | nested("homeostasis/gradient", gradient)
        return found | {"asymmetry/angle_degrees": weight_angle_deg(problem.params, NETWORK.pairs)["total"]}

    return jax.device_get(on_arrays(measure, problem))


def error(found, expected) -> float:
    """Largest relative error of the sum, the sum of squares and the values that are stored."""
    found = np.asarray(found)
    if not isinstance(expected, dict):
        return float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))
    flat = found.ravel()
    middle = flat.size // 2
    scale = np.sqrt(expected["sum_of_squares"] / flat.size)
    scale = 1.0 if scale < 1e-15 else scale  # homeostasis does not reach biases: they hold rounding errors
    parts = [
        (flat.sum() - expected["sum"]) / (scale * np.sqrt(flat.size)),
        (np.sum(flat**2) - expected["sum_of_squares"]) / (scale**2 * flat.size),
        *(flat[:4] - expected["first"]) / scale,
        *(flat[middle : middle + 4] - expected["middle"]) / scale,
    ]
    return float(np.max(np.abs(parts)))


def test_state_signal_and_gradient_agree_with_the_published_code():
    """By the solver that presets choose, in a few passes; the other tests here take the published one."""
    params, images, targets, _ = drawn()
    relaxation = RelaxationSettings("alternating", free_steps=100, nudged_steps=100, tolerance=1e-9)
    problem = Problem(NETWORK, params, images, targets, relaxation, GradientSettings("hep_exact"))

    def found(problem):
        free = free_phase(problem)
        state = free.phase.state
        vector, _ = ESTIMATORS["hep_exact"].error_signal(free)
        gradient = mean_of(summed_gradient(problem, state, vector), problem)
        output = NETWORK.output(problem.params, activities(problem, state)["out"])
        arrays = nested("free/state", state) | nested("error_signal/exact", vector)
        return arrays | nested("gradient/hep_exact", gradient) | {"free/output": output}

    errors = {
        key: error(value, STORED[key]) for key, value in jax.device_get(on_arrays(found, problem)).items()
    }
    assert len(errors) == 22
    assert not {key: value for key, value in errors.items() if not value < LIMIT}


@pytest.mark.slow
@pytest.mark.parametrize("group", ["params", "free", "error_signal", "gradient", "homeostasis", "asymmetry"])
def test_the_convolutional_network_agrees_with_the_published_code(group):
    errors = {key: error(found, STORED[key]) for key, found in ours().items() if key.startswith(group)}
    worst = max(errors, key=errors.__getitem__)
    print(f"conv {group}: worst {errors[worst]:.1e} in {worst}")
    assert not {key: value for key, value in errors.items() if not value < LIMIT}


@pytest.mark.slow
def test_no_array_of_the_convolutional_network_is_left_unchecked():
    assert set(ours()) == set(STORED)
