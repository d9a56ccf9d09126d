"""Noise on the states: none without it, its size, its keys, and what the Cauchy sum makes of it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.engine import Problem, estimate, free_phase, summed_gradient
from hepcli.settings import ESTIMATORS, GradientSettings, RelaxationSettings
from tests.dense import dense_network

from .cases import CASES, distance, leaves, make_problem, on_arrays

EXAMPLES = 4000
NAMES = ("in-l1", "l1-l2", "l2-l1", "l2-out", "out-l2")
NETWORK = dense_network(
    (("l1", 3), ("l2", 3), ("out", 3)), tuple(tuple(name.split("-")) for name in NAMES), 2, 3
)


def many_times(noise_std: float, solver: str = "alternating", steps: int = 40, **gradient) -> Problem:
    """The same example thousands of times: every one sees noise of its own."""
    rng = np.random.default_rng(0)
    params = {
        own.name: {"kernel": jnp.asarray(0.4 * rng.standard_normal((2 if own.pre == "in" else 3, 3)))}
        for own in NETWORK.connections
    }
    for name in ("in-l1", "l1-l2", "l2-out"):
        params[name]["bias"] = jnp.full(3, 0.4)
    params["readout"] = {"kernel": jnp.asarray(rng.standard_normal((3, 3))), "bias": jnp.zeros(3)}
    return Problem(
        NETWORK,
        params,
        jnp.ones((EXAMPLES, 2)),
        jnp.broadcast_to(jnp.eye(3)[0], (EXAMPLES, 3)),
        RelaxationSettings(solver, free_steps=steps, nudged_steps=steps, noise_std=noise_std),
        GradientSettings(**{"method": "hep"} | gradient),
        jax.random.key(1),
    )


def free_state(problem: Problem):
    return on_arrays(lambda p: free_phase(p).phase.state, problem)


def without_noise(problem: Problem) -> Problem:
    return problem._replace(relaxation=replace(problem.relaxation, noise_std=0.0))


@pytest.mark.parametrize("method", ["hep", "online_hep", "asymep", "dyadic_ep", "bptt"])
def test_a_key_alone_changes_nothing(method):
    problem = make_problem(CASES["layered"], method, num_points=4)
    silent, keyed = (
        on_arrays(lambda p: estimate(p).gradient, p)
        for p in (problem, problem._replace(key=jax.random.key(3)))
    )
    for ours, theirs in zip(leaves(silent), leaves(keyed), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("method", ["hep", "hep_exact", "online_hep", "asymep", "dyadic_ep", "bptt", "rbp"])
def test_every_method_runs_with_noise_from_its_key(method):
    problem = make_problem(CASES["layered"], method, num_points=4)
    noisy = problem._replace(relaxation=replace(problem.relaxation, noise_std=0.01))
    gradient = [
        on_arrays(lambda p, key=key: estimate(p._replace(key=jax.random.key(key))).gradient, noisy)
        for key in (3, 3, 4)
    ]
    assert distance(gradient[0], gradient[1]) == 0
    assert distance(gradient[0], gradient[2]) > 1e-4
    silent = on_arrays(lambda p: estimate(p).gradient, problem)
    assert 1e-4 < distance(gradient[0], silent) < 0.5


def test_feedforward_learns_at_the_noisy_state_that_it_reports():
    """One pass gives state, loss and gradient."""
    upwards = ("in-l1", "l1-l2", "l2-out")
    problem = many_times(0.2, method="feedforward")
    params = {name: problem.params[name] for name in (*upwards, "readout")}
    problem = problem._replace(system=NETWORK.without_feedback, params=params)
    learned, local = on_arrays(
        lambda p: ((own := estimate(p)).gradient_sum, summed_gradient(p, own.state, own.error_vector)),
        problem,
    )
    assert distance(learned, local) < 1e-6


def test_noise_needs_a_key():
    problem = many_times(0.04)._replace(key=None)
    with pytest.raises(ValueError, match="need keys"):
        free_phase(problem)


def test_the_last_update_adds_noise_of_the_given_size():
    """A layer without recurrent input is its constant drive and the last noise."""
    alone = dense_network((("out", 3),), (("in", "out"),), 2, 3)
    problem = many_times(0.04)._replace(system=alone)
    problem = problem._replace(
        params={"in-out": problem.params["in-l1"], "readout": problem.params["readout"]}
    )
    out = np.asarray(free_state(problem)["out"])
    expected = np.asarray(free_state(without_noise(problem))["out"])
    assert (out - expected).std() == pytest.approx(0.04, rel=0.03)
    assert abs((out - expected).mean()) < 0.04 * 4 / np.sqrt(out.size)


def test_solvers_carry_the_same_noise():
    """The alternating solver runs one chain of the noisy synchronous dynamics: the same spread at the end."""
    rest = free_state(without_noise(many_times(0.0)))
    spread = {
        solver: {
            name: np.std(np.asarray(u) - np.asarray(rest[name]))
            for name, u in free_state(many_times(0.04, solver)).items()
        }
        for solver in ("alternating", "synchronous")
    }
    for name, std in spread["synchronous"].items():
        assert spread["alternating"][name] == pytest.approx(std, rel=0.04), name
    assert spread["synchronous"]["l2"] > 1.03 * 0.04  # more than its own: the other layers' noise arrives


def signal_noise(method: str, num_points: int, radius: float) -> float:
    """Root mean square of what noise in the nudged phases adds to e."""
    problem = many_times(0.002, steps=60, method=method, num_points=num_points, beta_radius=radius)

    def both(problem):
        free = free_phase(without_noise(problem))
        silent = ESTIMATORS[method].error_signal(free)[0]
        return silent, ESTIMATORS[method].error_signal(free._replace(problem=problem))[0]

    silent, noisy = on_arrays(both, problem)
    return float(np.sqrt(np.mean([np.mean((np.asarray(noisy[n] - silent[n])) ** 2) for n in silent])))


@pytest.mark.parametrize("method", ["hep", "asymep"])
def test_larger_nudges_and_more_points_average_noise_away(method):
    """The noise of e falls as 1/(|β| √N)."""
    wide, narrow, more = (signal_noise(method, *circle) for circle in ((2, 0.1), (2, 0.025), (6, 0.1)))
    print(f"{method}: {wide:.2e} {narrow:.2e} {more:.2e}")
    assert narrow / wide == pytest.approx(4, rel=0.1)
    assert wide / more == pytest.approx(np.sqrt(3), rel=0.1)


def test_every_step_has_noise_of_its_own():
    """Linear feedback w on itself sums independent noise to s²/(1 − w²), the same one to s²/(1 − w)²."""
    network = dense_network((("out", 3),), (("in", "out"), ("out", "out")), 2, 3, "linear")
    problem = many_times(0.04, solver="synchronous", steps=40)
    params = {"in-out": problem.params["in-l1"], "readout": problem.params["readout"]}
    problem = problem._replace(system=network, params=params | {"out-out": {"kernel": 0.6 * jnp.eye(3)}})
    spread = np.std(free_state(problem)["out"], axis=0)
    np.testing.assert_allclose(spread, 0.04 / np.sqrt(1 - 0.6**2), rtol=0.05)


def test_every_visit_of_an_online_estimate_has_noise_of_its_own():
    """It averages away over cycles, by less than √4, as a visit starts from the state of the last."""
    spread = []
    for cycles in (1, 4):
        problem = many_times(0.04, method="online_hep", steps=1, num_points=4, online_cycles=cycles)
        found = on_arrays(lambda p: estimate(p).error_vector["out"], problem)
        spread.append(np.std(found, axis=0).mean())
    assert 1.4 < spread[0] / spread[1] < 2
