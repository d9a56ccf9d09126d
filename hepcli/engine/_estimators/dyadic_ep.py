"""`dyadic_ep`: a midpoint and a difference that relax together from rest, without a free phase."""

from jax import Array

from hepcli.engine._estimators.rbp import adjoint_sweep
from hepcli.engine._problem import learn_locally, phase_key
from hepcli.engine._relax import all_finite, example_norm, iterate, with_noise
from hepcli.engine._sweep import Groups, make_sweep, num_sweeps, update_groups, vector_field
from hepcli.engine._types import Estimate, PhaseReport, Problem, State, Sweep


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
    system, params, beta = problem.system, problem.params, problem.gradient.beta_radius
    relaxation = problem.relaxation
    constant = system.input_drive(params, problem.inputs)
    groups = update_groups(system, relaxation.solver)
    move_midpoint = with_noise(
        lambda group: make_sweep(system, params, group, constant),
        groups,
        relaxation.noise_std,
        phase_key(problem, "midpoint"),
    )

    def move(pair: tuple[State, State], count: int | Array) -> tuple[State, State]:
        midpoint = move_midpoint(pair[0], count)

        def dynamics(backwards: Groups) -> Sweep:
            return adjoint_sweep(problem, constant, midpoint, backwards[::-1], beta)

        key = phase_key(problem, "difference")
        move_difference = with_noise(dynamics, groups[::-1], relaxation.noise_std, key)
        return midpoint, move_difference(pair[1], count)

    rest = system.zero_state(problem.inputs)
    sweeps = num_sweeps(len(groups), relaxation.free_steps)
    (midpoint, difference), count = iterate(move, (rest, rest), sweeps, relaxation.tolerance, batch_ndim=1)
    again = adjoint_sweep(problem, constant, midpoint, (system.layers,), beta)(difference)
    moved = {name: (again[name] - d) / beta for name, d in difference.items()}
    error_vector = {name: d / beta for name, d in difference.items()}

    def record(change: State, state: State) -> PhaseReport:
        residual = example_norm(change, 1)
        converged = residual <= relaxation.converged_residual
        return PhaseReport(residual, converged, all_finite(state, 1), count)

    free = record(vector_field(system, params, constant, midpoint), midpoint)
    return learn_locally(problem, midpoint, error_vector, free, record(moved, error_vector))
