"""Tied kernels, kernels of their own, other activations and other orders: the laws they obey."""

import functools
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.engine import Problem, activities, estimate, exact_parts, free_phase, jacobian_symmetry
from hepcli.networks import build_network
from hepcli.settings import DenseLayer, GradientSettings, KernelSettings, NetworkSettings, RelaxationSettings

from . import conv_cases
from .cases import NAIVE_ACTIVATIONS, assert_slope, distance, leaves, on_arrays
from .conv_cases import BATCH, NUM_CLASSES, conv

IMAGE = (6, 6, 2)
PLAIN = {"pool_size": 1, "pool_stride": 1}
METHODS = ("hep_exact", "rbp", "bptt", "asymep_exact")


class Case(NamedTuple):
    """A network to try a law on, and how it relaxes."""

    layers: dict
    connections: str
    kernels: dict | None = None
    activation: str = "tanh"
    solver: str = "alternating"
    order: object = "sequential"
    readout: bool = True


RESIDUAL = "in-h1 in-h2 h1-h2 h2-h1 h2-h3 h3-h2 h1-h3 h3-h1 h3-out out-h3"
CASES = {
    "residual": Case(
        {
            "h1": conv(2, **PLAIN),
            "h2": conv(3, stride=2, activation="dsilu", **PLAIN),
            "h3": conv(2, **PLAIN),
            "out": DenseLayer(units=NUM_CLASSES, activation="linear"),
        },
        RESIDUAL,
        {
            "in-h2": KernelSettings(kernel_size=1, stride=2, padding="valid", bias=False),
            "h1-h3": KernelSettings(kernel_size=2, stride=2, padding="valid"),
        },
        readout=False,
    ),
    "local": Case(
        {
            "h1": conv(2, weights="local"),
            "h2": conv(2, weights="local", stride=2, **PLAIN),
            "out": DenseLayer(units=4, activation="softplus"),
        },
        "in-h1 h1-h2 h2-h1 h2-out out-h2",
        order="even_odd",
    ),
    "dense onto images": Case(
        {"h1": conv(2), "low": DenseLayer(units=4), "h2": conv(2, **PLAIN), "out": DenseLayer(units=3)},
        "in-h1 h1-low low-h1 h1-h2 h2-h1 low-h2 h2-low h2-out out-h2",
        {"low-h2": KernelSettings(kind="dense", gain=0.5)},
        activation="sigmoid",
        order=(("h1", "out"), ("low", "h2")),
    ),
    "clipped": Case(
        {
            "h1": conv(2, stride=2, **PLAIN),
            "h2": conv(3, activation="clipped_relu(0.8)", **PLAIN),
            "out": DenseLayer(units=NUM_CLASSES, activation="linear"),
        },
        "in-h1 h1-h2 h2-h1 h2-out out-h2",
        activation="hard_sigmoid",
        readout=False,
    ),
}


def make_problem(name: str, tied: bool = True, method: str = "hep", **gradient) -> Problem:
    case, rng = CASES[name], np.random.default_rng(len(name))
    settings = NetworkSettings(
        activation=case.activation,
        loss="cross_entropy" if case.readout else "squared_error",
        readout=case.readout,
        tied=tied,
        layers=case.layers,
        kernels=case.kernels or {},
        connections=tuple(case.connections.split()),
    )
    assert settings.misfits(IMAGE, NUM_CLASSES) == []
    network = build_network(settings, IMAGE, NUM_CLASSES)
    params = jax.tree.map(lambda w: 0.6 * w, conv_cases.random_params(network, rng, symmetric=not tied))
    return Problem(
        network,
        params,
        jnp.asarray(rng.standard_normal((BATCH, *IMAGE))),
        jnp.eye(NUM_CLASSES)[rng.integers(0, NUM_CLASSES, BATCH)],
        RelaxationSettings(case.solver, order=case.order, free_steps=160, nudged_steps=160),
        GradientSettings(method, **gradient),
    )


@functools.cache
def estimates(name: str):
    problem = make_problem(name)

    def all_methods(problem):
        return {m: estimate(problem._replace(gradient=GradientSettings(m))) for m in METHODS}

    return problem, on_arrays(all_methods, problem)


@pytest.mark.parametrize("name", CASES)
def test_the_synchronous_dynamics_are_the_naive_ones(name):
    """Strides, skips, dense connections onto images and clipped units, against loops in NumPy."""
    problem = make_problem(name)
    relaxation = RelaxationSettings("synchronous", free_steps=3)
    state = {layer: np.zeros((BATCH, *shape)) for layer, shape in problem.system.shapes}
    found = on_arrays(lambda own: free_phase(own).phase.state, problem._replace(relaxation=relaxation))
    for _ in range(3):
        state = conv_cases.naive_step(problem, state)
    for layer, expected in state.items():
        np.testing.assert_allclose(found[layer], expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", CASES)
def test_every_order_comes_to_the_fixed_point_of_the_naive_step(name):
    problem, found = estimates(name)
    state = jax.tree.map(np.asarray, found["rbp"].state)
    for layer, again in conv_cases.naive_step(problem, state).items():
        np.testing.assert_allclose(again, state[layer], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", CASES)
def test_all_estimators_agree_where_kernels_are_tied(name):
    _, found = estimates(name)
    assert np.all(found["rbp"].free.residual < 1e-10)
    for method in ("hep_exact", "asymep_exact"):
        assert distance(found[method].error_vector, found["rbp"].error_vector) < 1e-8
    for method in ("hep_exact", "bptt"):
        np.testing.assert_allclose(
            np.concatenate(list(map(np.ravel, leaves(found[method].gradient)))),
            np.concatenate(list(map(np.ravel, leaves(found["rbp"].gradient)))),
            rtol=1e-7, atol=1e-9,
        )  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_of_a_tied_network_is_that_of_the_loss(name):
    problem, found = estimates(name)
    assert_slope(problem, found["hep_exact"].gradient)


@pytest.mark.parametrize("name", CASES)
def test_the_jacobian_of_a_tied_network_is_symmetric(name):
    problem, found = estimates(name)

    def symmetry(problem):
        constant = problem.system.input_drive(problem.params, problem.inputs)
        activity = activities(problem, found["rbp"].state)
        return jacobian_symmetry(exact_parts(problem.system, problem.params, constant, activity))

    np.testing.assert_allclose(on_arrays(symmetry, problem), 1.0, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_a_tied_network_is_the_untied_one_with_equal_kernels(name):
    """Same states and signals; its gradient is the sum of those of both kernels, which stay equal by it."""
    problem, found = estimates(name)
    untied = make_problem(name, tied=False)
    pairs = dict(untied.system.pairs)
    params = dict(problem.params)
    for feedback, forward in pairs.items():
        kernel = params[forward]["kernel"]
        params[feedback] = {"kernel": kernel.T if kernel.ndim == 2 else kernel}
    gradient = replace(problem.signal_settings, method="hep_exact")
    other = on_arrays(estimate, problem._replace(system=untied.system, params=params, gradient=gradient))
    assert distance(other.error_vector, found["hep_exact"].error_vector) < 1e-9
    for feedback, forward in pairs.items():
        back = other.gradient[feedback]["kernel"]
        both = other.gradient[forward]["kernel"] + (back.T if back.ndim == 2 else back)
        tied = found["hep_exact"].gradient[forward]["kernel"]
        np.testing.assert_allclose(tied, both, rtol=1e-8, atol=1e-10)
    angles = problem.system.weight_angles_deg(problem.params)
    assert {name: float(angle) for name, angle in angles.items()} == dict.fromkeys(
        [*pairs.values(), "total"], 0.0
    )


@pytest.mark.parametrize(("name", "num_points"), [("residual", 6), ("local", 6), ("clipped", 2)])
def test_hep_comes_to_the_exact_signal(name, num_points):
    """With complex nudges where the activations are holomorphic, with real ones where they are clipped."""
    problem, found = estimates(name)
    gradient = GradientSettings("hep", num_points=num_points, beta_radius=0.02)
    signal = on_arrays(lambda own: estimate(own).error_vector, problem._replace(gradient=gradient))
    assert distance(signal, found["hep_exact"].error_vector) < 1e-3


def test_clipped_units_rest_where_a_loop_in_numpy_rests():
    problem, found = estimates("clipped")
    state = {layer: np.zeros((BATCH, *shape)) for layer, shape in problem.system.shapes}
    for _ in range(160):
        state = conv_cases.naive_step(problem, state)
    sigma = {layer: NAIVE_ACTIVATIONS[own] for layer, own in problem.system.activations}
    hidden = [u == sigma[layer](u) for layer, u in state.items() if layer != "out"]
    assert 0.1 < np.mean(np.concatenate(list(map(np.ravel, hidden)))) < 0.95  # some are clipped, some not
    for layer, expected in state.items():
        np.testing.assert_allclose(found["rbp"].state[layer], expected, rtol=1e-6, atol=1e-7)


def test_the_contrast_of_two_states_counts_a_tied_kernel_once():
    """The contrastive rule, which differentiates an energy, against the two local rules of both uses."""
    problem, found = estimates("residual")
    settings = GradientSettings("contrastive_ep", num_points=2, beta_radius=1e-3)
    contrast = on_arrays(estimate, problem._replace(gradient=settings)).gradient
    assert distance(contrast, found["rbp"].gradient) < 1e-4
