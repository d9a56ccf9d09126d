"""Rules for networks without feedback: with small nudges all of them are backpropagation."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from hepcli.engine import estimate
from hepcli.settings import GradientSettings

from .cases import LATERAL, LAYERED, Case, distance, make_problem, on_arrays

METHODS = pytest.mark.parametrize("method", ["dual_propagation", "predictive_coding"])


def problem_of(connections=LAYERED, activation="sigmoid", **relaxation):
    case = Case(connections, activation, "cross_entropy", True, False, "alternating", 3)
    problem = make_problem(case)
    settings = replace(problem.relaxation, **relaxation)
    return problem._replace(system=problem.system.without_feedback, relaxation=settings)


def found(problem, method, radius=1.0):
    return on_arrays(estimate, problem._replace(gradient=GradientSettings(method, 1, radius)))


@METHODS
@pytest.mark.parametrize("connections", [LAYERED, LATERAL], ids=["layered", "skips"])
def test_small_nudges_are_backpropagation(method, connections):
    problem = problem_of(connections, "dsilu")
    true = found(problem, "feedforward")
    errors = [distance(found(problem, method, r).gradient, true.gradient) for r in (0.1, 0.01, 0.001)]
    fall = 50 if method == "dual_propagation" else 5  # centred, and one-sided
    assert errors[0] > fall * errors[1] > fall**2 * errors[2]
    assert errors[0] < 0.3


@METHODS
def test_the_first_pass_down_has_the_deltas(method):
    """Of dual propagation to second order; predictive coding reads them while its states still are those of
    the pass up."""
    problem = problem_of(nudged_steps=1)
    deltas, own = found(problem, "feedforward").error_vector, found(problem, method, 1e-4)
    assert distance(own.error_vector, deltas) < 1e-3


@METHODS
def test_what_it_comes_to_is_a_fixed_point(method):
    result = found(problem_of(), method, 0.2)
    assert np.max(result.nudged.residual) < 1e-10
    assert np.all(result.nudged.settled)


def test_predictive_coding_descends_the_energy_it_has_come_to():
    """The gradient is the slope of min_u ½‖ε‖² + βL over β, by finite differences of a descent by hand."""
    problem, beta, step = problem_of(), 0.5, 1e-4
    result = found(problem, "predictive_coding", beta)
    rng = np.random.default_rng(0)
    direction = jax.tree.map(lambda w: rng.standard_normal(w.shape), problem.params)

    def energy(params, state):
        activity = {name: jax.nn.sigmoid(4 * u - 2) for name, u in state.items()} | {"in": problem.inputs}
        total = 0.0
        for name, u in state.items():
            own = [c for c in problem.system.connections if c.post == name]
            drives = [activity[c.pre] @ params[c.name]["kernel"] + params[c.name]["bias"] for c in own]
            total = total + 0.5 * ((u - sum(drives)) ** 2).sum()
        logits = activity["out"] @ params["readout"]["kernel"] + params["readout"]["bias"]
        return total - beta * (problem.targets * jax.nn.log_softmax(logits)).sum()

    @jax.jit
    def least(params):
        def descend(_, state):
            slope = jax.grad(energy, 1)(params, state)
            return {name: u - 0.2 * slope[name] for name, u in state.items()}

        return energy(params, jax.lax.fori_loop(0, 2000, descend, result.state))

    moved = [jax.tree.map(lambda w, d: w + s * d, problem.params, direction) for s in (step, -step)]  # noqa: B023
    slope = (least(moved[0]) - least(moved[1])) / (2 * step) / beta
    own = [c.name for c in problem.system.connections] + ["readout"]
    along = sum(
        np.sum(result.gradient_sum[name][leaf] * direction[name][leaf])
        for name in own
        for leaf in direction[name]
    )
    assert along == pytest.approx(float(slope), rel=1e-4)


@pytest.mark.parametrize("method", ["feedforward", "dual_propagation", "predictive_coding"])
def test_a_skipped_example_may_hold_anything(method):
    problem = problem_of(unsettled="skip")
    result = found(problem._replace(inputs=problem.inputs.at[1, 2].set(np.nan)), method, 0.2)
    rest = np.array([0, 2])
    others = problem._replace(inputs=problem.inputs[rest], targets=problem.targets[rest])
    assert result.num_learned == 2
    # The kernel of the input multiplies the bad input itself.
    bad, good = (g | {"in-l1": {}} for g in (result.gradient, found(others, method, 0.2).gradient))
    assert distance(bad, good) < 1e-12


@METHODS
def test_a_network_with_feedback_is_refused(method):
    problem = make_problem(Case(LAYERED, "sigmoid", "cross_entropy", True, False, "alternating", 3))
    problem = problem._replace(gradient=replace(problem.gradient, method=method))
    with pytest.raises(ValueError, match="without feedback"):
        estimate(problem)


def test_a_residual_is_one_of_the_signal_however_small_the_nudge():
    """What is left of a difference is of second order in β, and divided by β as the signal is."""
    problem = problem_of(nudged_steps=1)
    residuals = [found(problem, "dual_propagation", radius).nudged.residual for radius in (0.02, 0.01)]
    np.testing.assert_allclose(residuals[0], 2 * np.asarray(residuals[1]), rtol=0.05)
