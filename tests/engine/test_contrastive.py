"""Contrastive rules: what they are against loops in NumPy, and what they come to in the limit."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.engine import estimate, free_phase
from hepcli.engine._estimators import contrastive
from hepcli.settings import GradientSettings
from tests.dense import dense_network

from .cases import (
    BATCH,
    INPUT_SIZE,
    LATERAL,
    LAYERED,
    NAIVE_ACTIVATIONS,
    Case,
    distance,
    make_problem,
    naive_relax,
    naive_step,
    on_arrays,
    random_params,
)
from .conv_cases import make_problem as make_conv_problem

DENSE = Case(LAYERED, "sigmoid", "squared_error", False, True, "alternating", 5)
SIDEWAYS = Case(LATERAL, "dsilu", "cross_entropy", True, True, "synchronous", 6)
BOTH = pytest.mark.parametrize("case", [DENSE, SIDEWAYS], ids=["layered", "lateral"])


def gradient_of(problem, method, *circle):
    settings = GradientSettings(method, *circle)
    return on_arrays(lambda own: estimate(own).gradient, problem._replace(gradient=settings))


def activities_of(problem, state):
    sigma = NAIVE_ACTIVATIONS[dict(problem.system.activations)["out"]]
    return {name: sigma(u) for name, u in state.items()} | {"in": np.asarray(problem.inputs)}


def products(problem, activity):
    """∂Φ/∂θ summed over the batch, straight from Φ = ½ rᵀ K r + rᵀ(W x + b)."""
    found = {}
    for connection in problem.system.connections:
        share = 1.0 if connection.pre == "in" else 0.5
        post = activity[connection.post]
        found[connection.name] = {"kernel": share * activity[connection.pre].T @ post}
        if connection.is_forward:
            found[connection.name]["bias"] = post.sum(axis=0)
    return found


def contrast(problem, first, second, amplitude):
    """The mean over the batch, the readout left out."""
    pair = products(problem, first), products(problem, second)
    return jax.tree.map(lambda a, b: (a - b) / amplitude / len(problem.inputs), *pair)


def without_readout(gradient):
    return {name: weights for name, weights in gradient.items() if name != "readout"}


@BOTH
def test_centred_ep_is_the_difference_of_both_nudges(case):
    problem, beta = make_problem(case), 0.3
    plus, minus = (activities_of(problem, naive_relax(problem, 200, sign * beta)) for sign in (1, -1))
    found = without_readout(gradient_of(problem, "contrastive_ep", 2, beta))
    assert distance(found, contrast(problem, plus, minus, 2 * beta)) < 1e-10


def test_one_sided_ep_is_the_difference_to_the_free_state():
    problem, beta = make_problem(DENSE), 0.3
    free, nudged = (activities_of(problem, naive_relax(problem, 200, b)) for b in (0.0, beta))
    found = gradient_of(problem, "contrastive_ep", 1, beta)
    assert distance(found, contrast(problem, nudged, free, beta)) < 1e-10


@BOTH
def test_the_error_of_contrastive_ep_falls_with_the_points(case):
    """Along symmetric directions its limit is the gradient: pairs share it evenly."""
    problem = make_problem(case)
    true = gradient_of(problem, "rbp")
    even = {name: dict(weights) for name, weights in true.items()}
    for pre, post in problem.system.edges:
        both = true[f"{pre}-{post}"]["kernel"] + true[f"{post}-{pre}"]["kernel"].T
        even[f"{pre}-{post}"]["kernel"] = both / 2
    errors = [distance(gradient_of(problem, "contrastive_ep", n, 0.05), even) for n in (1, 2, 4, 6)]
    assert errors[0] > 10 * errors[1] > 100 * errors[2] > 1000 * errors[3]
    assert errors[3] < 1e-5


@BOTH
def test_contrasts_keep_symmetric_weights_symmetric(case):
    gradient = gradient_of(make_problem(case), "contrastive_ep", 4, 0.5)
    for name in gradient:
        back = "-".join(reversed(name.split("-")))
        if back in gradient and name != "readout":
            np.testing.assert_allclose(gradient[name]["kernel"], gradient[back]["kernel"].T, atol=1e-12)


def clamped(problem, amplitude):
    """Free and clamped activities by synchronous steps in NumPy."""
    sigma = NAIVE_ACTIVATIONS[dict(problem.system.activations)["out"]]
    state = naive_relax(problem, 200)
    free = activities_of(problem, state)
    out = free["out"] + amplitude * (np.asarray(problem.targets) - free["out"])
    held = -np.log(1 / out - 1) / 4 + 0.5  # the state of this activity
    np.testing.assert_allclose(sigma(held), out)
    for _ in range(200):
        state = naive_step(problem, state | {"out": held})
    return free, activities_of(problem, state | {"out": held})


@pytest.mark.parametrize("amplitude", [0.9, 0.2])
def test_coupled_learning_is_the_contrast_of_the_clamped_state(amplitude):
    problem = make_problem(DENSE)
    found = gradient_of(problem, "coupled_learning", 1, amplitude)
    assert distance(found, contrast(problem, *clamped(problem, amplitude), amplitude)) < 1e-10


def test_contrastive_hebbian_is_coupled_learning_all_the_way():
    problem = make_problem(DENSE)
    whole, nearly = (
        gradient_of(problem, "contrastive_hebbian"),
        gradient_of(problem, "coupled_learning", 1, 1.0),
    )
    assert distance(whole, nearly) < 1e-12


def test_nothing_is_learned_where_the_output_is_right():
    problem = make_problem(DENSE)
    right = activities_of(problem, naive_relax(problem, 200))["out"]
    gradient = gradient_of(problem._replace(targets=jnp.asarray(right)), "contrastive_hebbian")
    assert max(np.max(np.abs(g)) for g in jax.tree.leaves(gradient)) < 1e-12


def test_coupled_learning_with_one_output_points_along_the_response():
    """A small displacement of the only output and a force on it leave the rest in the same direction."""
    rng = np.random.default_rng(0)
    connections = [tuple(name.split("-")) for name in LAYERED.split()]
    network = dense_network(
        (("l1", 4), ("l2", 4), ("out", 1)), connections, INPUT_SIZE, 1, "sigmoid", "squared_error", False
    )
    problem = make_problem(DENSE)._replace(
        system=network,
        params=random_params(network, rng, symmetric=True),
        targets=jnp.asarray(rng.random((BATCH, 1))),
    )
    signals = {
        method: on_arrays(
            lambda own: estimate(own).error_vector,
            problem._replace(gradient=GradientSettings(method, 1, 1e-5)),
        )
        for method in ("coupled_learning", "hep_exact")
    }
    for layer in ("l1", "l2"):
        ratio = signals["coupled_learning"][layer] / signals["hep_exact"][layer]
        expected = signals["coupled_learning"]["out"] / signals["hep_exact"]["out"]
        np.testing.assert_allclose(ratio, np.broadcast_to(expected, ratio.shape), rtol=1e-3)


def test_pairs_together_have_the_slope_of_the_loss():
    """Finite differences along a direction that keeps the weights symmetric."""
    problem = make_problem(DENSE)
    gradient, rng, step = gradient_of(problem, "contrastive_ep", 6, 0.02), np.random.default_rng(0), 1e-5
    direction = jax.tree.map(lambda w: jnp.asarray(rng.standard_normal(w.shape)), problem.params)
    for back, ahead in problem.system.pairs:
        direction[back]["kernel"] = direction[ahead]["kernel"].T
    losses = []
    for size in (step, -step):
        moved = jax.tree.map(lambda w, d: w + size * d, problem.params, direction)  # noqa: B023
        own = problem._replace(params=moved)
        out = activities_of(own, naive_relax(own, 200))["out"]
        losses.append(np.mean(0.5 * np.sum((out - np.asarray(problem.targets)) ** 2, axis=-1)))
    along = sum(
        np.sum(g * d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
    )
    assert along == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-5)


def test_skipped_examples_teach_nothing():
    problem = make_problem(DENSE, "contrastive_ep")
    impatient = problem._replace(relaxation=replace(problem.relaxation, free_steps=2, unsettled="skip"))
    found = on_arrays(estimate, impatient)
    assert found.num_learned == 0
    assert all(np.all(g == 0) for g in jax.tree.leaves(found.gradient))


def test_a_drive_that_is_not_linear_is_refused():
    problem = make_conv_problem("shared", "contrastive_ep")
    with pytest.raises(ValueError, match="drive is linear"):
        jax.eval_shape(lambda: estimate(problem).gradient)


def test_clamping_by_a_part_stops_at_that_part_of_the_tolerance(monkeypatch):
    """The displacement is divided by η, and so is what is left of it when a phase stops."""
    problem = make_problem(DENSE, "coupled_learning")
    problem = problem._replace(relaxation=replace(problem.relaxation, tolerance=1e-3))
    seen = []
    monkeypatch.setattr(contrastive, "run_phase", lambda *arguments: seen.append(arguments[-1]))
    contrastive.clamped_phase(free_phase(problem), 0.25)
    assert seen[0].tolerance == 0.25e-3
