"""What XLA is given: rolled loops, real kernels, one trace."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.engine import estimate
from hepcli.settings import ESTIMATORS

from .cases import CASES, make_problem


def equations(jaxpr):
    """All equations, those of inner programs included."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for part in value if isinstance(value, (tuple, list)) else [value]:
                inner = getattr(part, "jaxpr", part)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


def program(problem):
    def learn(params, inputs):
        found = estimate(problem._replace(params=params, inputs=inputs))
        return found.state, found.error_vector, found.gradient

    return jax.make_jaxpr(learn)(problem.params, problem.inputs).jaxpr


@pytest.mark.parametrize("tolerance", [0.0, 1e-6])
@pytest.mark.parametrize("method", ESTIMATORS)
def test_loops_are_rolled(method, tolerance):
    sizes = []
    for steps in (4, 400):
        problem = make_problem(
            CASES["layered"], method, num_points=4, online_cycles=steps, adjoint_steps=steps
        )
        relaxation = replace(problem.relaxation, free_steps=steps, nudged_steps=steps, tolerance=tolerance)
        sizes.append(sum(1 for _ in equations(program(problem._replace(relaxation=relaxation)))))
    assert sizes[0] == sizes[1] < 4000


@pytest.mark.parametrize("name", ["layered", "lateral"])
@pytest.mark.parametrize("method", ["hep", "online_hep"])
def test_kernels_are_never_cast_to_complex(name, method):
    batch = 7  # no layer has as many units: no state has the shape of a kernel
    problem = make_problem(CASES[name], method, num_points=4)
    problem = problem._replace(inputs=jnp.ones((batch, 4)), targets=jnp.ones((batch, 3)))
    kernels = {w["kernel"].shape for w in problem.params.values()}
    kernels |= {shape[::-1] for shape in kernels}
    assert not kernels & {u.shape for u in problem.system.zero_state(problem.inputs).values()}
    complex_seen = 0
    for equation in equations(program(problem)):
        for out in equation.outvars:
            if not jnp.issubdtype(out.aval.dtype, jnp.complexfloating):
                continue
            complex_seen += 1
            assert equation.primitive.name != "dot_general"
            assert out.aval.shape not in kernels, equation
    assert complex_seen  # the phases do run on complex states


@pytest.mark.parametrize("method", ESTIMATORS)
def test_one_trace_serves_all_batches(method):
    problem = make_problem(CASES["loop"], method)
    traces = []

    @jax.jit
    def learn(params, inputs):
        traces.append(None)
        return estimate(problem._replace(params=params, inputs=inputs)).gradient

    gradient = learn(problem.params, problem.inputs)
    learn(gradient, problem.inputs)
    assert len(traces) == 1


def test_gradients_have_the_names_shapes_and_dtypes_of_the_parameters():
    for method in ESTIMATORS:
        problem = make_problem(CASES["random"], method, num_points=3)
        single = jax.tree.map(lambda w: w.astype(np.float32), problem.params)
        problem = problem._replace(
            params=single,
            inputs=problem.inputs.astype(np.float32),
            targets=problem.targets.astype(np.float32),
        )
        found = jax.eval_shape(lambda problem=problem: estimate(problem))
        expected = jax.tree.map(lambda w: (w.shape, w.dtype), single)
        assert jax.tree.map(lambda g: (g.shape, g.dtype), found.gradient_sum) == expected
