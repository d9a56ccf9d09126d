"""`contrastive_ep`, `contrastive_hebbian`, `coupled_learning`: rules that contrast the energies of states."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hepcli.engine._dynamics import Dynamics, drive_at
from hepcli.engine._estimator import built_in
from hepcli.engine._estimators.hep import hep
from hepcli.engine._iterate import Context
from hepcli.engine._nudges import NudgeCircle, for_points, nudged_phases, response_on, run_circle
from hepcli.engine._problem import (
    FreePhase,
    activities,
    count_of,
    free_phase,
    learned_examples,
    only,
    phase_keys,
    readout_gradient,
)
from hepcli.engine._relax import in_float32, report, run_phase, split_drive
from hepcli.engine._types import Estimate, Gradient, Params, Phase, PhaseReport, Problem, State
from hepcli.settings.orders import Layers


@in_float32
def contrastive_ep(problem: Problem) -> Estimate:
    """The gradient d/dβ ∂Φ/∂θ by the Cauchy sum over nudged states: equilibrium propagation as it began.

    N = 1 is the one-sided rule, N = 2 the centred one, more points are holomorphic. Where `hep` learns from e
    and the free activity, this learns from products of both activities of each nudged state. With symmetric
    weights both have the limit rbp.

    Args:
        problem: the batch and a network whose layers are connected both ways, its drive linear.

    Returns:
        The estimate; its error vector is that of `hep`, which the gradient uses only in the limit.

    Source: Scellier & Bengio (2017); N = 2: Laborieux et al. (2021); complex: Laborieux & Zenke (2022).
        METHOD §10.
    """
    free = free_phase(problem)
    circle = run_circle(free, nudged_phases(free))
    gradient = _on_circle(free, circle)
    return _estimate(free, response_on(circle, free), gradient, circle.record)


def _on_circle(free: FreePhase, circle: NudgeCircle) -> Gradient:
    """Sum over the points of a circle of their energy gradients, each times its factor of the Cauchy sum."""
    num_points = free.problem.signal_settings.num_points
    scale = 1 / (num_points * circle.radius)
    signs = np.array([1.0, -1.0])[: len(circle.real.residual)]
    real = _of_points(free, circle.real, jnp.asarray(scale * signs))
    if num_points == 1:
        return _minus(real, _of_points(free, _as_point(free.phase), jnp.asarray(scale * signs)))
    if circle.upper is None:
        return real
    angles_rad = 2 * np.pi * np.arange(1, (num_points + 1) // 2) / num_points
    turns = 2 * scale * np.exp(-1j * angles_rad)  # each stands for its conjugate, too
    upper = _of_points(free, circle.upper, jnp.asarray(turns))
    total: Gradient = jax.tree.map(jnp.add, real, upper)
    return total


def _as_point(phase: Phase) -> Phase:
    """The free phase as a circle of one point."""
    one: Phase = jax.tree.map(lambda leaf: leaf[None], phase)
    return one


def _of_points(free: FreePhase, phase: Phase, factors: Array) -> Gradient:
    """Σ_k factor_k ∂Φ/∂θ at the states of a phase (points, batch, *units), real part."""
    problem = free.problem
    activity = activities(problem, {name: u.reshape(-1, *u.shape[2:]) for name, u in phase.state.items()})
    activity = _only_learned(free, activity, factors)
    inputs = for_points(factors, problem.inputs)
    every = jnp.repeat(factors, len(problem.inputs)).astype(activity["out"].dtype)
    return energy_gradient(problem._replace(inputs=inputs), activity, every)


def contrastive_hebbian(problem: Problem) -> Estimate:
    """Products of activities in the free state less those in the clamped one, where ``out`` is the targets.

    Source: Movellan (1991); Xie & Seung (2003). METHOD §10.
    """
    return _clamping(problem, 1.0)


@in_float32
def coupled_learning(problem: Problem) -> Estimate:
    """Like `contrastive_hebbian`, ``out`` clamped only η of the way to the targets; over η = `beta_radius`.

    Source: Stern, Hexner, Rocks & Liu (2021), "Supervised learning in physical networks". METHOD §10.
    """
    return _clamping(problem, problem.signal_settings.beta_radius)


def _clamping(problem: Problem, amplitude: float) -> Estimate:
    free = free_phase(problem)
    phase = clamped_phase(free, amplitude)
    at_rest = _only_learned(free, activities(problem, free.phase.state))
    clamped = _only_learned(free, _clamped(free, phase.state, amplitude))
    factor = jnp.full(len(problem.inputs), 1 / amplitude, problem.inputs.dtype)
    gradient = _minus(energy_gradient(problem, at_rest, factor), energy_gradient(problem, clamped, factor))
    return _estimate(free, _displacement(free, phase, amplitude), gradient, report(phase))


def clamped_phase(free: FreePhase, amplitude: float) -> Phase:
    """`nudged_steps` steps from u* with the activity of ``out`` held between its own and the targets.

    Args:
        free: the problem at the end of its free phase; no readout.
        amplitude: η, 1 for the targets themselves.

    Returns:
        The phase; the state of ``out``, which nothing reads, is that of the free phase, apart from noise.
    """
    problem, settings = free.problem, free.problem.relaxation.nudged_by(amplitude)
    system = problem.system
    constants, shared = split_drive(free.constant, free.phase.state)
    clamped = _clamped(free, free.phase.state, amplitude)["out"]
    keys = phase_keys(problem, "nudged")

    def dynamics_of(own: Context) -> Dynamics:
        def update(state: State, layers: Layers) -> State:
            activity = activities(problem, state) | {"out": own["out"]}
            moved = drive_at(system, problem.params, layers, activity, shared | own["drive"])
            return {name: state[name] if name == "out" else moved[name] for name in layers}

        return Dynamics(system.layers, system.edges, update, noise_std=settings.noise_std, keys=own["keys"])

    context = {"drive": constants, "out": clamped, "keys": keys}
    return run_phase(dynamics_of, context, free.phase.state, settings.nudged_steps, settings)


def _clamped(free: FreePhase, state: State, amplitude: float) -> State:
    """The activities at a state, but for ``out``, which is between that of the free phase and the targets."""
    activity = activities(free.problem, state)
    at_rest = activities(free.problem, free.phase.state)["out"]
    targets = free.problem.targets.reshape(at_rest.shape)
    return activity | {"out": at_rest + amplitude * (targets - at_rest)}


def _displacement(free: FreePhase, phase: Phase, amplitude: float) -> State:
    """(r* − r_clamped)/η per layer: in ``out`` the slope of the squared error."""
    at_rest = activities(free.problem, free.phase.state)
    clamped = _clamped(free, phase.state, amplitude)
    return {name: (r - clamped[name]) / amplitude for name, r in at_rest.items()}


def clamping_signal(free: FreePhase, *, whole: bool) -> tuple[State, PhaseReport]:
    """What `coupled_learning`, or with the whole way to the targets `contrastive_hebbian`, has for e."""
    amplitude = 1.0 if whole else free.problem.signal_settings.beta_radius
    phase = clamped_phase(free, amplitude)
    return _displacement(free, phase, amplitude), report(phase)


def energy_gradient(problem: Problem, activity: State, factor: Array) -> Gradient:
    """Σ factor ∂Φ/∂θ over examples, with Φ(r) = ½ rᵀ K r + rᵀ(W x + b), real part.

    Partners of a pair have half of the products each, a tied kernel its whole.

    Args:
        problem: the network and the inputs.
        activity: r per layer (batch, *units), real or complex.
        factor: of each example (batch,), likewise.

    Returns:
        The gradient, with the structure of the parameters; the readout is zero.

    Raises:
        ValueError: the drive of the network is not linear, so that Φ is not this.
    """
    system = problem.system
    if not system.linear_drive:
        raise ValueError("contrastive rules need a network whose drive is linear")

    def half_recurrent(params: Params) -> State:
        constant = system.input_drive(params, problem.inputs)
        total = drive_at(system, params, system.layers, activity, constant)
        return {name: (d + constant[name].astype(d.dtype)) / 2 for name, d in total.items()}

    cotangent = {name: factor.reshape(-1, *[1] * (r.ndim - 1)) * r for name, r in activity.items()}
    gradient: Gradient = jax.vjp(half_recurrent, problem.params)[1](cotangent)[0]
    return gradient


def _only_learned(free: FreePhase, activity: State, points: Array | None = None) -> State:
    """Zero activity for the examples that are not learned from, at each of `points` where there are any."""
    learned = learned_examples(free.problem, free.phase)
    if learned is None:
        return activity
    return only(learned if points is None else for_points(points, learned), activity)


def _minus(first: Gradient, second: Gradient) -> Gradient:
    difference: Gradient = jax.tree.map(jnp.subtract, first, second)
    return difference


def _estimate(free: FreePhase, error_vector: State, contrast: Gradient, nudged: PhaseReport) -> Estimate:
    """The estimate of a contrast, with the readout's own gradient at the free state."""
    problem, state = free.problem, free.phase.state
    learned = learned_examples(problem, free.phase)
    direct = readout_gradient(problem, state if learned is None else only(learned, state), learned)
    gradient: Gradient = jax.tree.map(jnp.add, contrast, direct)
    count = count_of(problem, learned)
    return Estimate(state, error_vector, gradient, count, report(free.phase), nudged, error_vector)


CONTRASTIVE_EP = built_in("contrastive_ep", contrastive_ep, hep, nudged_phases)
CONTRASTIVE_HEBBIAN = built_in(
    "contrastive_hebbian", contrastive_hebbian, partial(clamping_signal, whole=True)
)
COUPLED_LEARNING = built_in("coupled_learning", coupled_learning, partial(clamping_signal, whole=False))
