"""`dyadic_ep`: a midpoint and a difference that relax together from rest, without a free phase."""

from dataclasses import replace

from jax import Array

from hepcli.engine._dynamics import Dynamics, network_update, vector_field
from hepcli.engine._estimator import built_in
from hepcli.engine._estimators.rbp import adjoint_dynamics
from hepcli.engine._iterate import Context, Pass, iterate
from hepcli.engine._norms import example_norm
from hepcli.engine._problem import learn_locally, phase_keys
from hepcli.engine._relax import report_of, split_drive
from hepcli.engine._solver import make_solver
from hepcli.engine._types import Estimate, Problem, State


def dyadic_ep(problem: Problem) -> Estimate:
    """e = d/β, with the midpoint m following F(m) and the difference d following J_uᵀ(m) d + β ∂L/∂u.

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
    constant, rest = system.input_drive(params, problem.inputs), system.zero_state(problem.inputs)
    drive, shared = split_drive(constant, rest)
    solver, noise_std = make_solver(relaxation), relaxation.noise_std
    # d is linear in β and carried over β, so that the tolerance is that of e; noise has its own size.
    scale = beta if noise_std else 1.0

    # Noise keeps all examples moving to the end: their keys need not go with them.
    midpoint_keys, difference_keys = (phase_keys(problem, phase) for phase in ("midpoint", "difference"))

    def midpoints(constant: State) -> Dynamics:
        update = network_update(system, params, constant)
        return Dynamics(system.layers, system.edges, update, noise_std=noise_std, keys=midpoint_keys)

    def differences(constant: State, targets: Array, midpoint: State) -> Dynamics:
        around = adjoint_dynamics(problem._replace(targets=targets), constant, midpoint, scale)
        return replace(around, noise_std=noise_std, keys=difference_keys)

    def prepare(own: Context) -> Pass[tuple[State, State]]:
        constant = shared | own["drive"]

        def move(both: tuple[State, State], count: int | Array) -> tuple[State, State]:
            midpoint, difference = both
            midpoint = solver.step(midpoints(constant), midpoint, count)
            around = differences(constant, own["targets"], midpoint)
            return midpoint, solver.step(around, difference, count)

        return move

    passes = solver.num_passes(midpoints(constant), relaxation.free_steps)
    context = {"drive": drive, "targets": problem.targets}
    (midpoint, difference), count = iterate(
        prepare, context, (rest, rest), passes, relaxation.tolerance, solver.memory
    )
    around = differences(constant, problem.targets, midpoint)
    moved = {name: change / scale for name, change in around.change(difference).items()}
    error_vector = {name: d / scale for name, d in difference.items()}
    change = example_norm(vector_field(system, params, constant, midpoint), 1)
    free = report_of(change, midpoint, relaxation, count)
    nudged = report_of(example_norm(moved, 1), error_vector, relaxation, count)
    return learn_locally(problem, midpoint, error_vector, free, nudged)


DYADIC_EP = built_in("dyadic_ep", dyadic_ep)
