"""Backpropagation's reference: the network without feedback, against a hand-written one."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.engine import estimate, free_phase
from hepcli.settings import SOLVERS, GradientSettings

from .cases import CASES, LATERAL, LAYERED, Case, distance, make_problem, mean_of, on_arrays

SKIP_AHEAD = LATERAL.replace("l1-out", "l1-out l1-l3 l3-out in-l3")


def problem_of(connections, solver="alternating", method="feedforward"):
    problem = make_problem(Case(connections, "sigmoid", "cross_entropy", True, False, solver, 3), method)
    return problem._replace(system=problem.system.without_feedback)


def by_hand(problem):
    """Gradient of the mean loss of a plain feed-forward network, layer after layer."""

    def loss(params):
        activity = {"in": problem.inputs}
        for name in problem.system.layers:
            own = [c for c in problem.system.connections if c.post == name]
            drives = [activity[c.pre] @ params[c.name]["kernel"] + params[c.name]["bias"] for c in own]
            activity[name] = jax.nn.sigmoid(4 * sum(drives) - 2)
        logits = activity["out"] @ params["readout"]["kernel"] + params["readout"]["bias"]
        return -jnp.mean(jnp.sum(problem.targets * jax.nn.log_softmax(logits), axis=-1))

    names = {c.name for c in problem.system.connections} | {"readout"}
    return jax.grad(loss)({name: problem.params[name] for name in names})


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("connections", [LAYERED, SKIP_AHEAD], ids=["layered", "skips"])
def test_it_is_backpropagation(solver, connections):
    problem = problem_of(connections, solver)
    found, expected = on_arrays(estimate, problem), by_hand(problem)
    gradient = mean_of(found.gradient_sum, problem)
    assert distance({name: gradient[name] for name in expected}, expected) < 1e-12
    assert np.max(found.free.residual) == 0
    assert np.all(found.free.passes == (3 if solver == "synchronous" else 1))


@pytest.mark.parametrize("order", ["even_odd", "sequential", (("out",), ("l3", "l2"), ("l1",))], ids=str)
def test_the_input_reaches_the_output_in_any_order(order):
    problem = problem_of(SKIP_AHEAD)
    other = problem._replace(relaxation=replace(problem.relaxation, order=order, free_steps=1))
    found, expected = on_arrays(estimate, other), on_arrays(estimate, problem)
    assert distance(found.state, expected.state) == 0
    assert distance(mean_of(found.gradient_sum, other), mean_of(expected.gradient_sum, problem)) == 0


def test_the_error_vector_is_the_adjoint_of_the_network_without_feedback():
    problem = problem_of(SKIP_AHEAD)
    deltas = on_arrays(estimate, problem).error_vector
    true = on_arrays(estimate, problem._replace(gradient=make_problem(CASES["loop"], "rbp").gradient))
    assert distance(deltas, true.error_vector) < 1e-12


def test_one_pass_is_the_fixed_point_wherever_it_starts():
    problem = problem_of(SKIP_AHEAD)
    ones = {name: jnp.ones_like(u) for name, u in problem.system.zero_state(problem.inputs).items()}
    assert distance(free_phase(problem, ones).phase.state, free_phase(problem).phase.state) == 0


def test_a_network_with_feedback_is_refused():
    problem = make_problem(CASES["layered"])
    problem = problem._replace(gradient=GradientSettings("feedforward"))
    with pytest.raises(ValueError, match="without feedback"):
        estimate(problem)
