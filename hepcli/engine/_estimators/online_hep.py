"""`online_hep`: always-on oscillation of the nudge, without a free phase."""

import jax
import jax.numpy as jnp
import numpy as np

from hepcli.engine._dynamics import vector_field
from hepcli.engine._estimator import built_in
from hepcli.engine._norms import example_norm
from hepcli.engine._problem import activities, learn_locally, phase_keys
from hepcli.engine._relax import in_float32, relax
from hepcli.engine._types import Estimate, PhaseReport, Problem, State


@in_float32
def online_hep(problem: Problem) -> Estimate:
    """Average state and activity/β over `online_cycles` turns of the nudge circle.

    The network starts from zero and is never reset; β starts at |β| and moves on by one of the N points
    every `nudged_steps` steps. State and activity/β are read at the end of each point's steps.

    Nothing is assumed to settle: where a point's steps do not suffice, what is averaged is a transient, which
    `nudged` records. As settled counts an example whose mean state nearly is a fixed point, which also takes
    a nudge small enough: at large |β| few are.

    Args:
        problem: the batch and the network; `gradient.num_points` at least 2.

    Returns:
        The estimate. The mean state stands in for the free fixed point: `free` holds its residual.

    Source: Laborieux & Zenke (2024), §3.2 and Table 1; which states are averaged: published code (METHOD §3).
    """
    system, settings = problem.system, problem.signal_settings
    relaxation = problem.relaxation.nudged_by(settings.beta_radius)
    constant = system.input_drive(problem.params, problem.inputs)
    zeros = system.zero_state(problem.inputs)
    dtype = np.result_type(zeros["out"].dtype, np.complex64)
    circle = np.exp(2j * np.pi * np.arange(settings.num_points) / settings.num_points)
    keys = phase_keys(problem, "online")
    betas = jnp.asarray(settings.beta_radius * np.tile(circle, settings.online_cycles), dtype)

    def visit(
        carry: tuple[State, State, State], point: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[State, State, State], PhaseReport]:
        state, sum_state, sum_response = carry
        beta, number = point
        phase = relax(
            system, problem.params, constant, state,
            steps=relaxation.nudged_steps, settings=relaxation, beta=beta, targets=problem.targets,
            keys=None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, number),
        )  # fmt: skip
        response = {name: r / beta for name, r in activities(problem, phase.state).items()}
        sum_state = {name: total + jnp.real(phase.state[name]) for name, total in sum_state.items()}
        sum_response = {name: total + jnp.real(response[name]) for name, total in sum_response.items()}
        record = PhaseReport(phase.residual, phase.settled, phase.finite, phase.passes)
        return (phase.state, sum_state, sum_response), record

    start = {name: u.astype(dtype) for name, u in zeros.items()}
    (_, sum_state, sum_response), records = jax.lax.scan(
        visit, (start, zeros, zeros), (betas, jnp.arange(len(betas)))
    )
    mean_state = {name: total / len(betas) for name, total in sum_state.items()}
    error_vector = {name: total / len(betas) for name, total in sum_response.items()}
    residual = example_norm(vector_field(system, problem.params, constant, mean_state), 1)
    all_points = records.finite.all(axis=0)
    free = PhaseReport(
        residual, residual <= relaxation.converged_residual, all_points, records.passes.sum(axis=0)
    )
    nudged = PhaseReport(
        records.residual.max(axis=0), records.settled.all(axis=0), all_points, records.passes.max(axis=0)
    )
    return learn_locally(problem, mean_state, error_vector, free, nudged)


ONLINE_HEP = built_in("online_hep", online_hep)
