"""`dyadic_ep`: a midpoint and a difference that relax together from rest, without a free phase."""

from dataclasses import replace
from typing import Any

from jax import Array

from hepcli.engine._dynamics import Dynamics, network_update, vector_field
from hepcli.engine._estimator import Estimator
from hepcli.engine._estimators.rbp import adjoint_dynamics
from hepcli.engine._norms import example_norm
from hepcli.engine._problem import learn_locally, phase_key
from hepcli.engine._relax import report_of
from hepcli.engine._solver import iterate, make_solver
from hepcli.engine._types import Estimate, Problem, State


def dyadic_ep(problem: Problem) -> Estimate:
    """e = d/β, with the midpoint m following F(m) and the difference d following J_Fᵀ(m) d + β ∂L/∂u.

    Both start from zero and relax together for `free_steps` steps; the limit is the fixed point and
    the error vector of `rbp`, whatever the asymmetry and whatever β. d follows m as it moves, so that for an
    example that has not settled e mixes the adjoints of the states it went through.

    Args:
        problem: the batch and the network; β is `gradient.beta_radius`.

    Returns:
        The estimate; `free` records the midpoint, `nudged` the difference over β.

    Source: Scurria et al., arXiv:2602.03670 (METHOD §8).
    """
    system, params = problem.system, problem.params
    relaxation, beta = problem.relaxation, problem.signal_settings.beta_radius
    constant = system.input_drive(params, problem.inputs)
    solver, noise_std = make_solver(relaxation), relaxation.noise_std
    midpoints = Dynamics(
        system.layers, system.edges, network_update(system, params, constant),
        noise_std=noise_std, key=phase_key(problem, "midpoint"),
    )  # fmt: skip

    def differences(midpoint: State) -> Dynamics:
        around = adjoint_dynamics(problem, constant, midpoint, beta)
        return replace(around, noise_std=noise_std, key=phase_key(problem, "difference"))

    def move(carry: tuple[Any, Any], count: int | Array) -> tuple[Any, Any]:
        (midpoint, own_memory), (difference, memory) = carry
        midpoint, own_memory = solver.step(midpoints, midpoint, own_memory, count)
        difference, memory = solver.step(differences(midpoint), difference, memory, count)
        return (midpoint, own_memory), (difference, memory)

    rest = system.zero_state(problem.inputs)
    start = (rest, solver.init(midpoints, rest)), (rest, solver.init(differences(rest), rest))
    passes = solver.num_passes(midpoints, relaxation.free_steps)
    end, count = iterate(
        move, start, passes, relaxation.tolerance, batch_ndim=1, watched=lambda own: (own[0][0], own[1][0])
    )
    (midpoint, _), (difference, _) = end
    moved = {name: change / beta for name, change in differences(midpoint).change(difference).items()}
    error_vector = {name: d / beta for name, d in difference.items()}
    change = example_norm(vector_field(system, params, constant, midpoint), 1)
    free = report_of(change, midpoint, relaxation, count)
    nudged = report_of(example_norm(moved, 1), error_vector, relaxation, count)
    return learn_locally(problem, midpoint, error_vector, free, nudged)


DYADIC_EP = Estimator(dyadic_ep, limit="rbp", has_free_phase=False)
