"""The method's laws on small convolutional networks: shared and local kernels, dense layers on top."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.engine import (
    Dynamics,
    activities,
    estimate,
    exact_parts,
    free_phase,
    jacobian_symmetry,
    make_solver,
    network_update,
    per_example,
    step_matrix,
)
from hepcli.settings import ESTIMATORS, SOLVERS, GradientSettings

from .cases import assert_slope, distance, leaves, on_arrays
from .conv_cases import ASYMMETRIC, BATCH, CASES, SYMMETRIC, make_problem, naive_step

METHODS = ("hep_exact", "rbp", "bptt")
CORRECTED = ("asymep_exact", "dyadic_ep")  # which differ from the others where the Jacobian is asymmetric


@functools.cache
def estimates(name: str):
    """What the estimators with a closed-form limit say about a case, compiled once."""
    problem = make_problem(name)

    def all_methods(problem):
        methods = (*METHODS, *(CORRECTED if name in ASYMMETRIC else ()))
        return {m: estimate(problem._replace(gradient=GradientSettings(m))) for m in methods}

    return problem, on_arrays(all_methods, problem)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("beta", [0.0, 0.3, 0.2 - 0.1j])
def test_one_step_is_the_naive_step(name, beta):
    problem, found = estimates(name)
    rng = np.random.default_rng(0)
    state = {layer: np.asarray(u) for layer, u in found["rbp"].state.items()}
    if beta:
        state = {layer: u + 0.2 * beta * rng.standard_normal(u.shape) for layer, u in state.items()}

    @jax.jit
    def step(state):
        system = problem.system
        constant = system.input_drive(problem.params, problem.inputs)
        nudge = jnp.asarray(beta) if beta else None
        update = network_update(system, problem.params, constant, nudge, problem.targets)
        return update(state, system.layers)

    ours, naive = (
        step({layer: jnp.asarray(u) for layer, u in state.items()}),
        naive_step(problem, state, beta),
    )
    for layer, expected in naive.items():  # feedback is differentiated numerically there
        np.testing.assert_allclose(ours[layer], expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_all_phases_converge(name):
    _, found = estimates(name)
    for method, record in found.items():
        assert np.max(record.free.residual) < 1e-12, method
        if method != "bptt":
            assert np.max(record.nudged.residual) < 1e-12, method


@pytest.mark.parametrize("name", SYMMETRIC)
def test_symmetric_jacobian_hep_exact_equals_rbp_and_bptt(name):
    _, found = estimates(name)
    assert distance(found["hep_exact"].error_vector, found["rbp"].error_vector) < 1e-10
    assert distance(found["hep_exact"].gradient, found["bptt"].gradient) < 1e-10


@pytest.mark.parametrize("name", ASYMMETRIC)
def test_asymmetric_jacobian_biases_hep_but_neither_rbp_nor_bptt(name):
    _, found = estimates(name)
    assert distance(found["hep_exact"].error_vector, found["rbp"].error_vector) > 1e-3
    assert distance(found["rbp"].gradient, found["bptt"].gradient) < 1e-10


@pytest.mark.parametrize("name", ASYMMETRIC)
def test_corrected_dynamics_lose_the_bias_of_asymmetry(name):
    """A convolutional drive is not linear: both products with its derivative are taken."""
    problem, found = estimates(name)
    true = found["rbp"]
    for method in CORRECTED:
        assert distance(found[method].error_vector, true.error_vector) < 1e-9
        assert distance(found[method].gradient, true.gradient) < 1e-9

    def nudged(problem):
        free = free_phase(problem)
        settings = [GradientSettings("asymep", n, 0.05) for n in (2, 4)]
        return [
            ESTIMATORS["asymep"].error_signal(free._replace(problem=problem._replace(gradient=own)))[0]
            for own in settings
        ]

    two, four = (distance(signal, true.error_vector) for signal in on_arrays(nudged, problem))
    assert four < 0.1 * two < 1e-2


@pytest.mark.parametrize("name", ["shared", "local"])
def test_gradient_equals_finite_differences_of_the_loss_at_the_fixed_point(name):
    problem, found = estimates(name)
    assert_slope(problem, found["rbp"].gradient)


CIRCLES = ((1, 0.05), (2, 0.05), (4, 0.05), (6, 0.05), (2, 0.1), (4, 0.1))


@pytest.mark.parametrize("name", ["shared", "local", "topped"])
def test_hep_approaches_hep_exact_geometrically_in_the_points(name):
    problem, found = estimates(name)

    def all_circles(problem):
        free = free_phase(problem)
        settings = {circle: GradientSettings("hep", *circle) for circle in CIRCLES}
        return {
            circle: ESTIMATORS["hep"].error_signal(free._replace(problem=problem._replace(gradient=own)))[0]
            for circle, own in settings.items()
        }

    exact = found["hep_exact"].error_vector
    error = {circle: distance(e, exact) for circle, e in on_arrays(all_circles, problem).items()}
    print(name, {circle: f"{value:.1e}" for circle, value in error.items()})
    assert error[2, 0.05] < 0.1 * error[1, 0.05]
    assert error[4, 0.05] < 0.1 * error[2, 0.05]
    assert error[6, 0.05] < max(0.1 * error[4, 0.05], 1e-9)
    assert np.log2(error[2, 0.1] / error[2, 0.05]) == pytest.approx(2, abs=0.1)
    assert np.log2(error[4, 0.1] / error[4, 0.05]) == pytest.approx(4, abs=0.3)


@pytest.mark.parametrize("name", ["shared", "local", "topped"])
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


def dynamics(problem, constant):
    system = problem.system
    update = network_update(system, problem.params, constant)
    return Dynamics(system.layers, system.edges, update)


def test_alternating_updates_one_group_after_the_other():
    """Each from the newest values of the other group, and from its own of the pass before."""
    problem, found = estimates("local")
    solver = make_solver(replace(problem.relaxation, solver="alternating"))
    groups = solver.groups(dynamics(problem, None))
    assert sorted(map(sorted, groups)) == [["l1", "out"], ["l2"]]
    rng = np.random.default_rng(1)
    state = {
        layer: np.asarray(u) + 0.1 * rng.standard_normal(u.shape) for layer, u in found["rbp"].state.items()
    }

    @jax.jit
    def one_pass(state):
        constant = problem.system.input_drive(problem.params, problem.inputs)
        return solver.step(dynamics(problem, constant), state, 0)

    ours = one_pass({layer: jnp.asarray(u) for layer, u in state.items()})
    for layers in groups:
        new = naive_step(problem, state)
        state = state | {layer: new[layer] for layer in layers}
    for layer, expected in state.items():
        np.testing.assert_allclose(ours[layer], expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["shared", "topped_symmetric"])
def test_the_jacobian_depends_on_the_example(name):
    """Its symmetry follows from the naive step, and is one for a symmetric network at every example."""
    problem, found = estimates(name)
    state = found["rbp"].state

    def measure(problem):
        system, params = problem.system, problem.params
        constant = system.input_drive(params, problem.inputs)
        whole = per_example(constant, state)
        steps = jax.vmap(lambda c, u: step_matrix(system, params, c, u))(whole, state)
        return steps, exact_parts(system, params, constant, activities(problem, state))

    steps, parts = on_arrays(measure, problem)
    symmetry = np.asarray(jacobian_symmetry(parts))
    assert symmetry.shape == (BATCH,)
    if name.endswith("symmetric"):
        np.testing.assert_allclose(symmetry, 1.0, atol=1e-12)
    else:
        assert np.ptp(symmetry) > 1e-6
        assert symmetry.max() < 0.999
    rng = np.random.default_rng(2)
    direction = {layer: rng.standard_normal(u.shape) for layer, u in state.items()}
    ends = [
        naive_step(problem, {layer: np.asarray(u) + s * direction[layer] for layer, u in state.items()})
        for s in (1e-4, -1e-4)
    ]
    flat = lambda tree: np.concatenate(  # noqa: E731
        [np.asarray(tree[layer]).reshape(BATCH, -1) for layer in problem.system.layers], axis=1
    )
    slope = (flat(ends[0]) - flat(ends[1])) / 2e-4
    np.testing.assert_allclose(np.einsum("bij,bj->bi", steps, flat(direction)), slope, atol=1e-5)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("tolerance", [0.0, 1e-3])
def test_a_free_phase_in_half_precision(precision, tolerance):
    """Close to the fixed point, back in full precision, with the residual of the full field."""
    problem, found = estimates("shared")
    relaxation = replace(problem.relaxation, free_precision=precision, tolerance=tolerance)
    free = on_arrays(lambda p: free_phase(p)[1:], problem._replace(relaxation=relaxation))
    phase = free[1]
    expected = found["rbp"].state
    assert {u.dtype for u in phase.state.values()} == {np.dtype(np.float64)}
    assert 1e-6 < distance(phase.state, expected) < (2e-3 if precision == "float16" else 2e-2)
    step = naive_step(problem, {layer: np.asarray(u) for layer, u in phase.state.items()})
    moved = {layer: step[layer] - np.asarray(u) for layer, u in phase.state.items()}
    residual = np.sqrt(sum((m.reshape(BATCH, -1) ** 2).sum(axis=1) for m in moved.values()))
    np.testing.assert_allclose(phase.residual, residual, rtol=1e-5)
    size = np.sqrt(sum((np.asarray(u).reshape(BATCH, -1) ** 2).sum(axis=1) for u in phase.state.values()))
    assert (residual < float(jnp.finfo(precision).eps) * size).all()  # rounding alone, so it has settled
    assert phase.settled.all()
    assert all(np.isfinite(leaf).all() for leaf in leaves(phase.state))
