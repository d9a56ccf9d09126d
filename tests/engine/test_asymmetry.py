"""The Jacobian's measures: published numbers, a second implementation, estimates within their error."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.engine import (
    activities,
    activity_jacobian_matrix,
    estimated_parts,
    exact_parts,
    free_phase,
    jacobian_symmetry,
    leading_eigenvalues,
    per_example,
    step_matrix,
    step_product,
)
from hepcli.networks import weight_angle_deg

from .cases import ASYMMETRIC, BATCH, CASES, SYMMETRIC, make_problem, naive_step, on_arrays
from .reference import Reference

NETWORKS = ("mlp", "loop")
reference = functools.cache(Reference)


@functools.cache
def of_reference(name):
    """Jacobians and their parts at the published activities."""
    ref = reference(name)
    activity = {layer: jnp.asarray(r) for layer, r in ref.under("free/activity").items()}

    def measure(problem):
        constant = problem.system.input_drive(problem.params, problem.inputs)
        whole = per_example(constant, activity)
        matrices = jax.vmap(lambda c, r: activity_jacobian_matrix(problem.system, problem.params, c, r))(
            whole, activity
        )
        return matrices, exact_parts(problem.system, problem.params, constant, activity)

    return on_arrays(measure, ref.problem())


@pytest.mark.parametrize("name", NETWORKS)
def test_published_jacobian_and_symmetry(name):
    expected = reference(name).under("asymmetry")
    matrices, parts = of_reference(name)
    np.testing.assert_allclose(matrices, expected["jacobian"], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(jacobian_symmetry(parts), expected["jacobian_symmetry"], rtol=1e-8)


@pytest.mark.parametrize("name", NETWORKS)
def test_homeostatic_loss_of_the_published_jacobian(name):
    jacobian = reference(name).arrays["asymmetry/jacobian"]
    antisymmetric = (jacobian - jacobian.transpose(0, 2, 1)) / 2
    _, parts = of_reference(name)
    np.testing.assert_allclose(parts.antisymmetric, np.sum(antisymmetric**2, axis=(1, 2)), rtol=1e-8)
    whole = np.sum(jacobian**2, axis=(1, 2))
    np.testing.assert_allclose(parts.symmetric + parts.antisymmetric, whole, rtol=1e-8)
    trace = np.einsum("bij,bji->b", jacobian, jacobian)
    np.testing.assert_allclose(parts.symmetric - parts.antisymmetric, trace, rtol=1e-8)


def test_published_angle():
    ref = reference("mlp")
    angle = weight_angle_deg(ref.params(), ref.network.pairs)["total"]
    published = ref.arrays["asymmetry/angle_degrees"]
    assert published.dtype == np.float32  # so the file holds no more digits
    np.testing.assert_allclose(angle, published, rtol=np.finfo(np.float32).eps)


@functools.cache
def at_fixed_point(name):
    """Everything the laws below need of a case, compiled once."""
    problem = make_problem(CASES[name])

    def measure(problem):
        system, params = problem.system, problem.params
        free = free_phase(problem)
        state = free.phase.state
        activity = activities(problem, state)
        product = step_product(system, params, free.constant, state)
        whole = per_example(free.constant, state)
        return (
            state,
            jax.vmap(lambda c, u: step_matrix(system, params, c, u))(whole, state),
            leading_eigenvalues(product, state, jax.random.key(0), 64),
            leading_eigenvalues(product, state, jax.random.key(0), 6),
            exact_parts(system, params, free.constant, activity),
            estimated_parts(system, params, free.constant, activity, jax.random.key(3), 400),
        )

    return problem, on_arrays(measure, problem)


@pytest.mark.parametrize("name", CASES)
def test_the_step_matrix_is_the_derivative_of_the_naive_step(name):
    problem, (state, matrices, *_) = at_fixed_point(name)
    sizes = [(layer, i) for layer, (size,) in problem.system.shapes for i in range(size)]
    for column, (layer, unit) in enumerate(sizes):
        ends = []
        for shift in (1e-5, -1e-5):
            moved = {k: np.array(u) for k, u in state.items()}
            moved[layer][:, unit] += shift
            new = naive_step(problem, moved)
            ends.append(np.concatenate([new[k] for k in problem.system.layers], axis=-1))
        slope = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(matrices[:, :, column], slope, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_spectral_radius_against_all_eigenvalues(name):
    _, (_, matrices, (values, residuals), (coarse, coarse_residuals), *_) = at_fixed_point(name)
    radius = np.abs(np.linalg.eigvals(np.asarray(matrices))).max(axis=-1)
    np.testing.assert_allclose(np.abs(values), radius, rtol=1e-8)
    assert np.max(residuals) < 1e-8
    # In a small Krylov space the residual owns up to the error.
    wrong = np.abs(np.abs(coarse) - radius) > 0.05 * radius
    assert np.all(np.asarray(coarse_residuals)[wrong] > 1e-3)


@pytest.mark.parametrize("name", ASYMMETRIC)
def test_estimates_agree_with_the_exact_parts_within_their_error(name):
    *_, exact, draws = at_fixed_point(name)[1]
    for true, estimates in zip(exact, draws, strict=True):
        error = np.asarray(estimates).std(axis=0, ddof=1) / np.sqrt(len(estimates))
        deviation = np.abs(np.asarray(estimates).mean(axis=0) - true) / error
        assert deviation.shape == (BATCH,)
        assert deviation.max() < 4


@pytest.mark.parametrize("name", SYMMETRIC)
def test_a_symmetric_network_has_no_antisymmetric_part(name):
    *_, exact, draws = at_fixed_point(name)[1]
    np.testing.assert_allclose(jacobian_symmetry(exact), 1.0, atol=1e-12)
    assert np.max(draws.antisymmetric) < 1e-20


def test_estimates_of_other_places_are_drawn_apart():
    """And do not depend on how a split is divided into batches."""
    problem = make_problem(CASES["layered"])
    free = free_phase(problem)
    system, params, activity = problem.system, problem.params, activities(problem, free.phase.state)

    def of(first, last):
        constant = {
            name: part if part.ndim == 1 else part[first:last] for name, part in free.constant.items()
        }
        own = {name: r[first:last] for name, r in activity.items()}
        places = jnp.arange(first, last)
        return estimated_parts(system, params, constant, own, jax.random.key(0), 3, places).symmetric

    whole = of(0, 3)
    np.testing.assert_allclose(np.concatenate([of(0, 1), of(1, 3)], axis=1), whole, rtol=1e-5)
    assert len(np.unique(np.asarray(whole))) == whole.size


def test_the_residual_of_an_eigenvalue_is_that_of_its_vector():
    """Two vectors span too little of six directions: ‖M x − λ x‖ is large, and is what is returned."""
    matrix, key = np.diag(np.arange(1.0, 7)), jax.random.key(0)
    value, residual = leading_eigenvalues(
        lambda state: {"a": state["a"] @ matrix}, {"a": jnp.zeros((1, 6))}, key, 2
    )
    start = np.asarray(jax.random.normal(key, (1, 6), jnp.float64))[0]
    basis, _ = np.linalg.qr(np.stack([start, matrix @ start], axis=1))
    values, vectors = np.linalg.eigh(basis.T @ matrix @ basis)
    vector = basis @ vectors[:, -1]
    assert complex(value[0]) == pytest.approx(values[-1])
    assert float(residual[0]) == pytest.approx(np.linalg.norm(matrix @ vector - values[-1] * vector))
