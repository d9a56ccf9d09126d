"""`dyadic_ep`: a midpoint and a difference that relax together from rest, without a free phase."""

from jax import Array

from hepcli.engine._estimators.rbp import adjoint_sweep
from hepcli.engine._problem import parameter_gradient, phase_key
from hepcli.engine._relax import all_finite, example_norm, iterate, with_noise
from hepcli.engine._sweep import Groups, make_sweep, num_sweeps, update_groups, vector_field
from hepcli.engine._types import Estimate, PhaseReport, Problem, State, Sweep

_MIDPOINT, _DIFFERENCE = "midpoint/", "difference/"


def dyadic_ep(problem: Problem) -> Estimate:
    """e = d/β, with the midpoint m following F(m) and the difference d following J_Fᵀ(m) d + β ∂L/∂u.

    Both start from zero and relax together for `free_steps` steps; the limit is the fixed point and
    the error vector of `rbp`, whatever the asymmetry and whatever β.

    Args:
        problem: the batch and the network; β is `gradient.beta_radius`.

    Returns:
        The estimate; `free` records the midpoint, `nudged` the difference over β.

    Source: Scurria et al., arXiv:2602.03670 (METHOD §8).
    """
    system, params, beta = problem.system, problem.params, problem.gradient.beta_radius
    constant = system.input_drive(params, problem.inputs)
    groups = update_groups(system, problem.relaxation.solver)
    noise_std = problem.relaxation.noise_std
    sweep_midpoint = with_noise(
        lambda group: make_sweep(system, params, group, constant),
        groups,
        noise_std,
        phase_key(problem, "midpoint"),
    )

    def sweep(pair: State, count: int | Array) -> State:
        midpoint = sweep_midpoint(_part(pair, _MIDPOINT), count)

        def dynamics(backwards: Groups) -> Sweep:
            return adjoint_sweep(problem, constant, midpoint, backwards[::-1], beta)

        move = with_noise(dynamics, groups[::-1], noise_std, phase_key(problem, "difference"))
        return _pair(midpoint, move(_part(pair, _DIFFERENCE), count))

    rest = system.zero_state(problem.inputs)
    relaxation = problem.relaxation
    sweeps = num_sweeps(len(groups), relaxation.free_steps)
    end, count = iterate(sweep, _pair(rest, rest), sweeps, relaxation.tolerance, batch_ndim=1)
    midpoint, difference = _part(end, _MIDPOINT), _part(end, _DIFFERENCE)
    again = adjoint_sweep(problem, constant, midpoint, (system.layers,), beta)(difference)
    moved = {name: (again[name] - d) / beta for name, d in difference.items()}
    error_vector = {name: d / beta for name, d in difference.items()}

    def record(change: State, state: State) -> PhaseReport:
        residual = example_norm(change, 1)
        converged = residual <= relaxation.converged_residual
        return PhaseReport(residual, converged, all_finite(state, 1), count)

    free = record(vector_field(system, params, constant, midpoint), midpoint)
    gradient = parameter_gradient(problem, midpoint, error_vector)
    return Estimate(midpoint, error_vector, gradient, free, record(moved, error_vector))


def _pair(midpoint: State, difference: State) -> State:
    ahead = {_MIDPOINT + name: m for name, m in midpoint.items()}
    return ahead | {_DIFFERENCE + name: d for name, d in difference.items()}


def _part(pair: State, prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in pair.items() if name.startswith(prefix)}
