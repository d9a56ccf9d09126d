"""The homeostatic loss against the Jacobian written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.engine import (
    activities,
    activity_jacobian,
    draw_noise,
    free_phase,
    homeostatic_gradient,
    homeostatic_loss,
)

from .cases import BATCH, CASES, SYMMETRIC, make_problem


def at_activity(name: str):
    """A case, an arbitrary activity, and J = Wᵀ − 1 written out from the kernels, with n."""
    problem = make_problem(CASES[name])
    rng = np.random.default_rng(9)
    units = {name: size for name, (size,) in problem.system.shapes}
    activity = {layer: jnp.asarray(rng.random((BATCH, size))) for layer, size in units.items()}
    ends = dict(zip(units, np.cumsum(list(units.values())), strict=True))
    rows = {layer: slice(ends[layer] - size, ends[layer]) for layer, size in units.items()}
    total = sum(units.values())
    jacobian = -np.eye(total)
    for pre, post in problem.system.edges:
        jacobian[rows[post], rows[pre]] += np.asarray(problem.params[f"{pre}-{post}"]["kernel"]).T
    return problem, activity, jacobian, rows


def target(jacobian) -> float:
    """2‖A‖_F²/n."""
    antisymmetric = (jacobian - jacobian.T) / 2
    return 2 * (antisymmetric**2).sum() / len(jacobian)


@pytest.mark.parametrize("name", CASES)
def test_forward_products_with_the_jacobian(name):
    problem, activity, jacobian, rows = at_activity(name)
    vector = np.random.default_rng(1).standard_normal((BATCH, len(jacobian)))

    @jax.jit
    def product(vector):
        constant = problem.system.input_drive(problem.params, problem.inputs)
        image = activity_jacobian(problem.system, problem.params, constant, activity)
        return image({layer: vector[:, rows[layer]] for layer in activity})

    expected = vector @ jacobian.T
    for layer, image in product(jnp.asarray(vector)).items():
        np.testing.assert_allclose(image, expected[:, rows[layer]], rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["layered", "loop", "random"])
def test_sampled_loss_approaches_the_antisymmetric_part(name):
    """Mean of 4000 estimates, each from one draw, within four standard errors."""
    problem, activity, jacobian, _ = at_activity(name)
    noise = draw_noise(jax.random.key(5), activity, 4000)

    @jax.jit
    @jax.vmap
    def one_draw(noise):
        constant = problem.system.input_drive(problem.params, problem.inputs)
        return homeostatic_loss(
            problem.system, problem.params, constant, activity, {k: v[None] for k, v in noise.items()}
        )

    samples = np.asarray(one_draw(noise))
    standard_error = samples.std() / np.sqrt(len(samples))
    assert standard_error < 0.05 * target(jacobian)
    print(name, samples.mean(), target(jacobian), standard_error)
    assert samples.mean() == pytest.approx(target(jacobian), abs=4 * standard_error)


@pytest.mark.parametrize("name", SYMMETRIC)
def test_symmetric_weights_have_no_homeostatic_loss(name):
    """Not only on average: ‖Jε‖² = εᵀJ²ε for every draw."""
    problem, activity, jacobian, _ = at_activity(name)
    assert target(jacobian) == 0
    noise = draw_noise(jax.random.key(5), activity, 2)
    learn = jax.jit(
        lambda params: homeostatic_gradient(problem.system, params, problem.inputs, activity, noise)
    )
    loss, _ = learn(problem.params)
    assert abs(loss) < 1e-14


@pytest.mark.parametrize("name", ["layered", "lateral", "loop"])
def test_gradient_equals_finite_differences_for_the_same_noise(name):
    problem, activity, _, _ = at_activity(name)
    noise = draw_noise(jax.random.key(6), activity, 3)
    flat, structure = jax.tree.flatten(problem.params)
    rng, step = np.random.default_rng(2), 1e-4

    @jax.jit
    def learn(params):
        return homeostatic_gradient(problem.system, params, problem.inputs, activity, noise)

    _, gradient = learn(problem.params)
    for index, (leaf, slope) in enumerate(zip(flat, jax.tree.leaves(gradient), strict=True)):
        leaf, direction = np.asarray(leaf), rng.standard_normal(leaf.shape)
        ends = []
        for sign in (1.0, -1.0):
            moved = [*flat[:index], leaf + sign * step * direction, *flat[index + 1 :]]
            ends.append(float(learn(jax.tree.unflatten(structure, moved))[0]))
        difference = (ends[0] - ends[1]) / (2 * step)
        assert np.sum(np.asarray(slope) * direction) == pytest.approx(difference, abs=1e-8)


@pytest.mark.parametrize("name", ["layered", "random"])
def test_the_activity_is_held_fixed(name):
    """What acts on the Jacobian only through the activity has no gradient: input, biases, readout."""
    problem, activity, _, _ = at_activity(name)
    noise = draw_noise(jax.random.key(7), activity, 3)
    _, gradient = jax.jit(
        lambda params: homeostatic_gradient(problem.system, params, problem.inputs, activity, noise)
    )(problem.params)
    for connection, weights in gradient.items():
        recurrent = tuple(connection.split("-")) in problem.system.edges
        for leaf, slope in weights.items():
            assert bool(np.any(np.asarray(slope) != 0)) == (recurrent and leaf == "kernel")


def test_noise_is_a_function_of_the_key_and_differs_between_layers():
    activity = {"l2": jnp.zeros((2, 3)), "l1": jnp.zeros((2, 3))}
    first, again = (draw_noise(jax.random.key(1), activity, 50) for _ in range(2))
    reordered = draw_noise(jax.random.key(1), dict(reversed(activity.items())), 50)
    other = draw_noise(jax.random.key(2), activity, 50)
    for layer in activity:
        assert first[layer].shape == (50, 2, 3)
        assert first[layer].dtype == activity[layer].dtype
        np.testing.assert_array_equal(first[layer], again[layer])
        np.testing.assert_array_equal(first[layer], reordered[layer])
        assert np.all(np.asarray(first[layer] != other[layer]))
        assert abs(np.mean(first[layer])) < 4 / np.sqrt(300)
        assert np.std(first[layer]) == pytest.approx(1, abs=0.15)
    assert np.all(np.asarray(first["l1"] != first["l2"]))


def test_draws_one_by_one_are_the_draws_at_once(monkeypatch):
    """Of large networks all at once would take several times the memory."""
    problem = make_problem(CASES["layered"])
    free = free_phase(problem)
    activity = activities(problem, free.phase.state)
    noise = draw_noise(jax.random.key(0), activity, 4)
    found = []
    for most in (1 << 25, 0):
        monkeypatch.setattr("hepcli.engine._homeostasis._MOST_AT_ONCE", most)
        loss = homeostatic_loss(problem.system, problem.params, free.constant, activity, noise)
        found.append(
            (loss, homeostatic_gradient(problem.system, problem.params, problem.inputs, activity, noise))
        )
    for at_once, one_by_one in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(one_by_one, at_once, rtol=1e-12, atol=1e-15)
