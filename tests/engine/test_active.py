"""Every example runs as long as it needs: with a tolerance, and with mixing."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.engine import Problem, estimate, free_phase
from hepcli.engine._iterate import iterate
from hepcli.settings import ESTIMATORS, GradientSettings

from . import conv_cases
from .cases import CASES, distance, make_problem, on_arrays

SOLVERS = ("synchronous", "alternating", "anderson")
BATCH = 9  # shrinks to 4 and to 2


def widened(problem: Problem, batch: int = BATCH) -> Problem:
    """The problem with more examples and stronger feedback, so that some settle long before others."""
    rng = np.random.default_rng(0)
    shape = problem.inputs.shape[1:]
    scales = np.geomspace(0.1, 4, batch).reshape(-1, *[1] * len(shape))
    inputs = jnp.asarray(scales * rng.standard_normal((batch, *shape)))
    classes = problem.targets.shape[1]
    recurrent = {f"{pre}-{post}" for pre, post in problem.system.edges}
    params = {
        name: weights | {"kernel": (2.0 if name in recurrent else 1.0) * weights["kernel"]}
        for name, weights in problem.params.items()
    }
    return problem._replace(
        params=params, inputs=inputs, targets=jnp.eye(classes)[rng.integers(0, classes, batch)]
    )


def signal_of(problem: Problem):
    """Free phase and error signal, compiled, as a function of inputs and targets."""
    method = problem.gradient.method

    @jax.jit
    def run(inputs, targets):
        free = free_phase(problem._replace(inputs=inputs, targets=targets))
        vector, record = ESTIMATORS[method].error_signal(free)
        return free.phase.state, free.phase.passes, vector, record.passes

    return run


@pytest.mark.parametrize("memory", [0, 2])
def test_fast_and_slow_examples_stop_each_at_its_time(memory):
    """x ← a x + b with rates from fast to slow; one never rests, one is not finite."""
    rates = jnp.asarray([0.1, 0.5, 0.9, 0.99, 0.3, -1.0, 0.7, 0.95, jnp.nan])[:, None]

    def prepare(own):
        return lambda x, count: own["rate"] * x + own["shift"]

    context = {"rate": rates, "shift": jnp.ones((9, 2))}
    start = jnp.zeros((9, 2)).at[5, 0].set(3.0)
    end, passes = iterate(prepare, context, start, 200, 1e-6, memory)
    for row in range(9):
        alone = jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], (context, start))
        own_end, own_passes = iterate(prepare, *alone, 200, 1e-6, memory)
        np.testing.assert_array_equal(passes[row], own_passes[0])
        np.testing.assert_array_equal(end[row], own_end[0])
    assert passes[8] == 1
    if not memory:
        expected = [int(np.ceil(np.log(1e-6 / np.sqrt(2)) / np.log(r))) + 1 for r in (0.1, 0.5, 0.9)]
        np.testing.assert_allclose(passes[:3], expected, atol=1)
        assert passes[3] == passes[5] == 200


@pytest.mark.parametrize(
    ("solver", "method"),
    [
        *((solver, method) for solver in SOLVERS for method in ("hep", "hep_exact", "rbp")),
        *(("alternating", method) for method in ("asymep", "neumann_rbp")),
    ],
)
def test_each_example_comes_to_what_it_comes_to_alone(solver, method):
    problem = widened(make_problem(CASES["layered"], method, num_points=3, beta_radius=0.1))
    settings = replace(problem.relaxation, solver=solver, tolerance=1e-8)
    run = signal_of(problem._replace(relaxation=settings))
    together = run(problem.inputs, problem.targets)
    assert np.ptp(together[1]) >= 2  # some needed more passes than others
    for row in range(BATCH):
        alone = run(problem.inputs[row : row + 1], problem.targets[row : row + 1])
        for ours, theirs in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(ours[row], theirs[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("method", "solver"), [("hep", "anderson"), ("rbp", "alternating")])
def test_images_settle_one_by_one_too(method, solver):
    problem = conv_cases.make_problem("shared")
    problem = widened(problem._replace(gradient=GradientSettings(method, beta_radius=0.1)))
    settings = replace(problem.relaxation, solver=solver, tolerance=1e-9)
    run = signal_of(problem._replace(relaxation=settings))
    together = run(problem.inputs, problem.targets)
    alone = run(problem.inputs[4:5], problem.targets[4:5])
    for ours, theirs in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(ours[4], theirs[0], rtol=1e-11, atol=1e-12)


def test_all_steps_are_run_where_the_tolerance_is_out_of_reach():
    problem = widened(make_problem(CASES["layered"]))
    plain = replace(problem.relaxation, free_steps=30)
    long = replace(plain, tolerance=1e-30)
    every, active = (free_phase(problem._replace(relaxation=own)).phase for own in (plain, long))
    assert (active.passes == every.passes).all()
    for name, u in every.state.items():
        np.testing.assert_allclose(active.state[name], u, rtol=0, atol=1e-14)


@pytest.mark.parametrize("memory", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", [float, complex])
def test_mixing_solves_linear_maps_in_a_few_passes(memory, kind):
    """x ← A x + b: with as many differences as unknowns, the fixed point is found up to rounding."""
    rng = np.random.default_rng(memory)
    matrix = 0.8 * np.linalg.qr(rng.standard_normal((memory, memory)))[0]
    shift = rng.standard_normal((4, memory)).astype(kind)
    if kind is complex:
        shift = shift * (1 + 0.001j)  # one direction, so that real mixtures suffice
    fixed = np.linalg.solve(np.eye(memory) - matrix, shift.T).T

    def prepare(own):
        return lambda x, count: x @ jnp.asarray(matrix.T.astype(kind)) + own

    start = jnp.asarray(fixed + 1e-3 * rng.standard_normal(shift.shape))  # near enough to begin at once
    mixed, _ = iterate(prepare, jnp.asarray(shift), start, memory + 4, 0.0, memory)
    plain, _ = iterate(prepare, jnp.asarray(shift), start, memory + 4, 0.0)
    assert np.abs(mixed - fixed).max() < 1e-9
    assert np.abs(plain - fixed).max() > 1e-5


def test_who_never_came_near_enough_to_mix_takes_all_passes():
    """x ← 0.98 x from 1 moves by 2 % of itself in every pass: mixing, with half of them, never begins."""

    def prepare(own):
        return lambda x, count: 0.98 * x

    start = jnp.ones((3, 2))
    plain, _ = iterate(prepare, start, start, 100, 1e-6)
    mixed, passes = iterate(prepare, start, start, 100, 1e-6, 2)
    np.testing.assert_array_equal(mixed, plain)
    assert passes.tolist() == [150, 150, 150]


@pytest.mark.parametrize("memory", [1, 2, 3])
@pytest.mark.parametrize("rate", [-1.3, -1.02, 1.02, 1.3])
def test_mixing_keeps_no_unstable_fixed_point(memory, rate):
    """x ← rate x (1 − x²) in one direction, slow decay in the others, from near the fixed point 0.

    It repels at any of these rates. Plain passes go away from it, to fixed points or in turns to two states.
    """
    decay = jnp.asarray([0.0, 0.6, 0.5, -0.4])

    def prepare(own):
        def step(x, count):
            new = decay * x + own
            return new.at[:, 0].add(rate * x[:, 0] * (1 - x[:, 0] ** 2))

        return step

    context = jnp.asarray([[0.0, 1.0, 1.0, 1.0]])
    start = jnp.asarray([[1e-3, 2.0, 1.0, 0.5]])
    mixed, passes = iterate(prepare, context, start, 400, 1e-7, memory)
    plain, alone = iterate(prepare, context, start, 400, 1e-7)
    assert abs(plain[0, 0]) > 0.1
    np.testing.assert_array_equal(mixed, plain)
    assert passes[0] > alone[0]


def test_a_mixture_that_is_worse_is_not_taken():
    """On a map with a kink the last differences mislead; the guard keeps what plain passes reach."""

    def prepare(own):
        def step(x, count):
            return jnp.where(x > 1.0, 0.98 * x + 0.015, 0.3 * x) + own

        return step

    start, own = jnp.full((3, 1), 3.0), jnp.asarray([[0.0], [0.001], [0.002]])

    def residual(memory, passes):
        end, _ = iterate(prepare, own, start, passes, 0.0, memory)
        return np.abs(prepare(own)(end, 0) - end)[:, 0]

    for passes in (10, 40, 160):
        assert (residual(2, passes) <= 1.01 * residual(0, passes * 3 // 4) + 1e-15).all()


@pytest.mark.parametrize("beta", [0.2, 0.1 + 0.1j])
def test_mixing_leaves_real_and_complex_fixed_points_where_they_are(beta):
    problem = make_problem(CASES["random"], num_points=4, beta_radius=abs(beta))
    problem = widened(problem)

    def vector(solver):
        own = replace(problem.relaxation, solver=solver, tolerance=1e-13)
        free = free_phase(problem._replace(relaxation=own))
        return ESTIMATORS["hep"].nudged_phases(free)(jnp.asarray([beta]))

    plain, mixed = vector("alternating"), vector("anderson")
    assert mixed.passes.sum() < plain.passes.sum()
    for name, u in plain.state.items():
        assert jnp.iscomplexobj(mixed.state[name]) == isinstance(beta, complex)
        np.testing.assert_allclose(mixed.state[name], u, rtol=0, atol=1e-11)


@pytest.mark.parametrize("solver", SOLVERS)
def test_hep_exact_is_the_limit_of_hep_whatever_the_solver(solver):
    """Of examples that have not settled too, as long as nudged phases are plain."""
    problem = make_problem(CASES["loop"], num_points=6, beta_radius=1e-3)
    own = replace(
        problem.relaxation, solver=solver, nudged_solver="alternating", free_steps=12, nudged_steps=8
    )
    free = free_phase(problem._replace(relaxation=own))
    exact, many = (ESTIMATORS[method].error_signal(free)[0] for method in ("hep_exact", "hep"))
    for name, e in exact.items():
        np.testing.assert_allclose(many[name], e, rtol=0, atol=1e-9 * np.abs(e).max())
    mixed = replace(own, nudged_solver="anderson")
    again = ESTIMATORS["hep_exact"].error_signal(free._replace(problem=problem._replace(relaxation=mixed)))[0]
    for name, e in exact.items():
        if solver != "synchronous":
            np.testing.assert_array_equal(again[name], e)


def test_nudged_phases_have_a_solver_and_a_tolerance_of_their_own():
    problem = widened(make_problem(CASES["layered"], "hep"))
    own = replace(
        problem.relaxation,
        solver="anderson",
        tolerance=1e-6,
        nudged_solver="synchronous",
        nudged_tolerance=0.0,
    )
    free = free_phase(problem._replace(relaxation=own))
    _, record = ESTIMATORS["hep"].error_signal(free)
    assert (record.passes == own.nudged_steps).all()
    assert (free.phase.passes < own.free_steps // 2).all()


NUDGING = ["hep", "asymep", "contrastive_ep", "coupled_learning", "dual_propagation", "predictive_coding"]
NUDGING += ["dyadic_ep", "online_hep"]


@pytest.mark.parametrize("radius", [0.5, 1e-3, 1e-6])
@pytest.mark.parametrize("method", NUDGING)
def test_a_tolerance_is_one_of_the_signal_however_small_the_nudge(method, radius):
    problem = make_problem(CASES["layered_symmetric"], method, num_points=2, beta_radius=radius)
    key = "tolerance" if method == "dyadic_ep" else "nudged_tolerance"

    def run(problem):
        result = estimate(problem)
        return result.error_vector, result.nudged.passes

    def with_tolerance(tolerance):
        own = replace(problem.relaxation, **{key: tolerance})
        return on_arrays(run, problem._replace(relaxation=own))

    (full, all_passes), (early, passes) = with_tolerance(0.0), with_tolerance(1e-4)
    assert (passes < all_passes).all()
    assert distance(early, full) < 3e-3
