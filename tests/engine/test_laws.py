"""The method's laws on small random networks."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.engine import Dynamics, activities, estimate, free_phase, make_solver, relax
from hepcli.settings import ESTIMATORS, SOLVERS, GradientSettings

from .cases import (
    ASYMMETRIC,
    BATCH,
    CASES,
    NAIVE_ACTIVATIONS,
    SYMMETRIC,
    distance,
    estimates,
    make_problem,
    naive_relax,
    naive_step,
    of_inputs,
    on_arrays,
)


@pytest.mark.parametrize("name", CASES)
def test_all_phases_of_the_cases_converge(name):
    problem, found = estimates(name)
    for method, own in found.items():
        assert np.max(own.free.residual) < 1e-12, method
        if method != "bptt":
            assert np.max(own.nudged.residual) < 1e-12, method
    for layer, u in naive_relax(problem, 200).items():
        np.testing.assert_allclose(found["rbp"].state[layer], u, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", SYMMETRIC)
def test_symmetric_jacobian_hep_exact_equals_rbp_and_bptt(name):
    _, found = estimates(name)
    assert distance(found["hep_exact"].error_vector, found["rbp"].error_vector) < 1e-10
    assert distance(found["hep_exact"].gradient, found["rbp"].gradient) < 1e-10
    assert distance(found["hep_exact"].gradient, found["bptt"].gradient) < 1e-10


def test_bptt_goes_back_through_the_plain_passes_of_a_solver_that_mixes(monkeypatch):
    """Of one's own, too: what mixing does cannot be differentiated in reverse mode."""
    monkeypatch.setitem(SOLVERS, "own", SOLVERS["anderson"])
    problem = make_problem(CASES["loop"], "bptt")
    gradients = [
        estimate(problem._replace(relaxation=replace(problem.relaxation, nudged_solver=solver))).gradient
        for solver in ("own", "anderson", "alternating")
    ]
    assert distance(gradients[0], gradients[2]) == distance(gradients[1], gradients[2]) == 0


def test_bptt_of_a_large_network_computes_passes_again(monkeypatch):
    problem = make_problem(CASES["loop"], "bptt")
    whole = estimate(problem).gradient
    monkeypatch.setattr("hepcli.engine._solver._MOST_KEPT", 0)
    assert distance(estimate(problem).gradient, whole) < 1e-14


@pytest.mark.parametrize("name", ASYMMETRIC)
def test_asymmetric_jacobian_biases_hep_but_neither_rbp_nor_bptt(name):
    _, found = estimates(name)
    assert distance(found["hep_exact"].error_vector, found["rbp"].error_vector) > 1e-2
    assert distance(found["rbp"].gradient, found["bptt"].gradient) < 1e-10


@pytest.mark.parametrize("name", CASES)
def test_the_neumann_series_sums_to_rbp(name):
    _, found = estimates(name)
    assert distance(found["neumann_rbp"].error_vector, found["rbp"].error_vector) < 1e-10
    assert distance(found["neumann_rbp"].gradient, found["rbp"].gradient) < 1e-10


@pytest.mark.parametrize("name", CASES)
def test_gradient_equals_finite_differences_of_the_loss_at_the_fixed_point(name):
    """Leaf by leaf along a random direction; for hep_exact where the Jacobian is symmetric."""
    problem, found = estimates(name)
    rng, step = np.random.default_rng(0), 1e-5
    flat, structure = jax.tree.flatten(problem.params)
    directions = [jnp.asarray(rng.standard_normal(leaf.shape)) for leaf in flat]
    moves = [
        jnp.stack([step * sign * float(i == j) * d for j in range(len(flat)) for sign in (1, -1)])
        for i, d in enumerate(directions)
    ]

    @jax.jit
    @jax.vmap
    def loss_after(moves):
        params = jax.tree.unflatten(structure, [w + m for w, m in zip(flat, moves, strict=True)])
        free = free_phase(problem._replace(params=params))
        out = problem.system.activation("out", free.phase.state["out"])
        return problem.system.loss(params, out, problem.targets).mean()

    losses = np.asarray(loss_after(moves)).reshape(-1, 2)
    differences = (losses[:, 0] - losses[:, 1]) / (2 * step)
    exact = ["rbp", "bptt"] + ["hep_exact"] * (name in SYMMETRIC)
    for method in exact:
        slopes = [
            float(jnp.sum(g * d))
            for g, d in zip(jax.tree.leaves(found[method].gradient), directions, strict=True)
        ]
        scale = np.abs(differences).max()
        np.testing.assert_allclose(slopes, differences, rtol=0, atol=1e-7 * scale, err_msg=method)


@functools.cache
def circles(name: str):
    """hep of a case on the circles of `CIRCLES`, by (N, radius)."""
    problem = make_problem(CASES[name])

    def all_circles(problem):
        free = free_phase(problem)
        return {
            circle: ESTIMATORS["hep"].error_signal(
                free._replace(problem=problem._replace(gradient=GradientSettings("hep", *circle)))
            )[0]
            for circle in CIRCLES
        }

    return problem, on_arrays(all_circles, problem)


CIRCLES = [(1, 0.02), (2, 0.02), (3, 0.02)] + [(n, 0.04) for n in (1, 2, 3, 4, 6)]
HOLOMORPHIC = ("layered", "lateral", "loop")


@pytest.mark.parametrize("name", HOLOMORPHIC)
def test_hep_approaches_hep_exact_geometrically_in_the_points(name):
    """The error is of order |β|^N: halving the radius divides it by 2^N, further points by a factor each."""
    _, found = circles(name)
    exact = estimates(name)[1]["hep_exact"].error_vector
    error = {circle: distance(vector, exact) for circle, vector in found.items()}
    orders = {n: np.log2(error[n, 0.04] / error[n, 0.02]) for n in (1, 2, 3)}
    print(name, {circle: f"{value:.1e}" for circle, value in error.items()}, orders)
    for num_points, order in orders.items():
        assert order == pytest.approx(num_points, abs=0.1 if num_points > 1 else 0.35)
    assert error[2, 0.04] < 0.05
    assert error[4, 0.04] < 0.1 * error[2, 0.04]
    assert error[6, 0.04] < 0.1 * error[4, 0.04]


@pytest.mark.parametrize("name", HOLOMORPHIC)
def test_hep_equals_the_naive_sum_over_the_full_circle(name):
    """No conjugate symmetry, no batching of points, no shared drive, NumPy: the same error vectors."""
    problem, found = circles(name)
    sigma = {layer: NAIVE_ACTIVATIONS[own] for layer, own in problem.system.activations}
    free = naive_relax(problem, 200)
    for num_points, radius in CIRCLES:
        total = {layer: np.zeros(u.shape, complex) for layer, u in free.items()}
        for k in range(num_points):
            phase = np.exp(2j * np.pi * k / num_points)
            nudged = naive_relax(problem, 200, radius * phase, free)
            rest = {layer: sigma[layer](u) if num_points == 1 else 0 for layer, u in free.items()}
            total = {
                layer: total[layer] + (sigma[layer](nudged[layer]) - rest[layer]) / phase for layer in total
            }
        for layer, expected in total.items():
            expected = expected / (num_points * radius)
            assert np.abs(expected.imag).max() < 1e-11
            np.testing.assert_allclose(found[num_points, radius][layer], expected.real, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_solvers_share_their_fixed_points_and_error_signals(name):
    problem, found = estimates(name)
    other = min(set(SOLVERS) - {problem.relaxation.solver})

    def with_other(problem):
        free = free_phase(problem._replace(relaxation=replace(problem.relaxation, solver=other)))
        return free.phase.state, {m: ESTIMATORS[m].error_signal(free)[0] for m in ("hep_exact", "rbp")}

    state, vectors = on_arrays(with_other, problem)
    assert distance(state, found["rbp"].state) < 1e-12
    for method, vector in vectors.items():
        assert distance(vector, found[method].error_vector) < 1e-10


@pytest.mark.parametrize("name", ["layered", "loop"])
def test_alternating_passes_run_one_chain_of_the_synchronous_dynamics(name):
    """After s passes, class c holds what the synchronous dynamics reach in (s − 1)p + c + 1 steps."""
    problem = make_problem(CASES[name])
    dynamics = Dynamics(problem.system.layers, problem.system.edges, lambda u, layers: u)
    groups = make_solver(problem.relaxation).groups(dynamics)
    assert len(groups) == {"layered": 2, "loop": 3}[name]
    passes = 4
    settings = replace(problem.relaxation, free_steps=passes * len(groups))
    state = on_arrays(lambda p: free_phase(p).phase.state, problem._replace(relaxation=settings))
    for index, layers in enumerate(groups):
        synchronous = naive_relax(problem, (passes - 1) * len(groups) + index + 1)
        for layer in layers:
            np.testing.assert_allclose(state[layer], synchronous[layer], rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "method"),
    [("layered", "hep"), ("lateral", "hep_exact"), ("layered", "rbp"), ("lateral", "neumann_rbp")],
)
def test_early_stopping_keeps_the_signal_and_saves_passes(name, method):
    settings = GradientSettings(method, num_points=3, beta_radius=0.1)
    problem = make_problem(CASES[name])._replace(gradient=settings)

    def run(problem):
        free = free_phase(problem)
        vector, record = ESTIMATORS[method].error_signal(free)
        return free.phase.passes, record.passes, vector

    tolerance = 1e-9
    eager = problem._replace(relaxation=replace(problem.relaxation, tolerance=tolerance))
    free_passes, passes, vector = on_arrays(run, problem)
    fewer_free_passes, fewer_passes, near = on_arrays(run, eager)
    assert (fewer_free_passes < free_passes).all()
    assert (fewer_passes < passes).all()
    # The distance left is the last move times c/(1 − c); hep divides it by the radius.
    assert 0 < distance(near, vector) < 100 * tolerance


def test_flags_and_residuals_belong_to_their_examples():
    problem = make_problem(CASES["lateral"])
    short = replace(problem.relaxation, free_steps=6)
    state = naive_relax(problem, 6)
    step = naive_step(problem, state)
    residual = np.sqrt(sum(((step[name] - u) ** 2).sum(axis=-1) for name, u in state.items()))
    short = replace(short, converged_residual=float(np.sort(residual)[1]) * (1 + 1e-6))
    phase = on_arrays(lambda p: free_phase(p).phase, problem._replace(relaxation=short))
    np.testing.assert_allclose(phase.residual, residual, rtol=1e-9)
    np.testing.assert_array_equal(phase.settled, residual <= short.converged_residual)
    assert sorted(np.asarray(phase.settled)) == [False, True, True]
    assert np.asarray(phase.finite).all()
    assert (phase.passes == 6).all()


@pytest.mark.parametrize("method", ["hep", "hep_exact", "rbp"])
def test_a_bad_example_harms_no_other(method):
    """Neither their values nor their flags, and the loop still ends early; the bad one is counted."""
    problem = make_problem(CASES["layered"], method, num_points=3, beta_radius=0.05)
    problem = problem._replace(relaxation=replace(problem.relaxation, tolerance=1e-9))

    def run(problem):
        free = free_phase(problem)
        return free.phase, activities(problem, free.phase.state), ESTIMATORS[method].error_signal(free)

    run = of_inputs(run, problem)
    clean_phase, clean_activity, (clean_vector, clean_record) = run(problem.inputs)
    assert np.asarray(clean_phase.finite & clean_phase.settled & clean_record.settled).all()
    others = np.array([0, 2])
    for bad in (np.nan, np.inf):
        phase, activity, (vector, record) = run(problem.inputs.at[1, 2].set(bad).at[1, 3].set(-bad))
        for layer in activity:
            np.testing.assert_allclose(activity[layer][others], clean_activity[layer][others], atol=1e-12)
            np.testing.assert_allclose(vector[layer][others], clean_vector[layer][others], atol=1e-12)
        for flags in (phase.settled, record.settled):
            np.testing.assert_array_equal(flags, [True, False, True])
        np.testing.assert_array_equal(phase.finite, [True, False, True])
        np.testing.assert_array_equal(record.finite, [True, False, True])
        np.testing.assert_array_equal(phase.passes[others], clean_phase.passes[others])
        np.testing.assert_array_equal(record.passes[others], clean_record.passes[others])
        assert phase.passes[1] <= 3


@pytest.mark.parametrize("beta", [0.1, -0.05 + 0.08j])
def test_a_nudged_phase_ends_at_its_fixed_point(beta):
    """`relax` by itself: one nudge per example, residual of the nudged field."""
    problem = make_problem(CASES["random"])
    betas = beta * np.array([1.0, 0.5, 0.0])[:, None]

    def run(problem):
        system = problem.system
        constant = system.input_drive(problem.params, problem.inputs)
        start = {name: u.astype(betas.dtype) for name, u in system.zero_state(problem.inputs).items()}
        return relax(
            system,
            problem.params,
            constant,
            start,
            steps=200,
            settings=problem.relaxation,
            beta=jnp.asarray(betas),
            targets=problem.targets,
        )

    phase = on_arrays(run, problem)
    assert phase.residual.shape == (BATCH,)
    assert np.asarray(phase.settled).all()
    for layer, u in naive_relax(problem, 200, betas).items():
        np.testing.assert_allclose(phase.state[layer], u, rtol=0, atol=1e-12)
