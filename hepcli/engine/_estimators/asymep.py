"""`asymep`: nudged dynamics corrected so that their linear response is that of the transposed Jacobian."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import Array

from hepcli.engine._dynamics import Dynamics, drive, drive_at
from hepcli.engine._estimator import built_in, local_learning
from hepcli.engine._estimators.hep_exact import derivative_signal
from hepcli.engine._iterate import Context
from hepcli.engine._nudges import (
    by_point,
    cauchy_signal,
    for_points,
    nudge_of,
    nudged_keys,
    nudged_start,
)
from hepcli.engine._problem import FreePhase, activities
from hepcli.engine._relax import run_phase, split_drive
from hepcli.engine._types import Phase, PhaseReport, Problem, State
from hepcli.settings import Edges, Layers

Product = Callable[[State], State]


def asymep(free: FreePhase) -> tuple[State, PhaseReport]:
    """e = dr/dβ at 0 by the Cauchy sum over fixed points of the corrected nudged dynamics.

    F_asym(u; β) = F(u; β) − (J − Jᵀ)(σ(u) − r*), with J at the free fixed point and the activation
    bypassed. The correction is linear in the activity, so complex nudges need nothing new. In the limit
    of many points e is that of `rbp`, whatever the asymmetry.

    For an example that has not settled, J and r* are those of the state its free phase ended with: the
    correction vanishes there and grows as the state moves on, and e answers to the corrected dynamics, for
    N = 1 with their motion without a nudge divided by |β|.

    Args:
        free: the problem at the end of its free phase.

    Returns:
        e per layer, real (batch, *units), and the record of the nudged phases.

    Source: Scurria et al., arXiv:2602.03670; with complex nudges, METHOD §8.
    """
    return cauchy_signal(free, corrected_phases(free))


def corrected_phases(free: FreePhase) -> Callable[[Array], Phase]:
    """Phases of the corrected dynamics from u*, as a function of their nudges (points,)."""
    corrected, context = _corrected(free)
    settings = free.problem.relaxation.nudged_by(free.problem.signal_settings.beta_radius)

    def phases(betas: Array) -> Phase:
        def dynamics_of(own: Context) -> Dynamics:
            return replace(corrected(own, own["beta"]), noise_std=settings.noise_std, keys=own["keys"])

        each = for_points(betas, context)
        each |= {"beta": nudge_of(free, betas), "keys": nudged_keys(free, betas)}
        start = nudged_start(free, betas)
        return by_point(betas, run_phase(dynamics_of, each, start, settings.nudged_steps, settings))

    return phases


def asymep_exact(free: FreePhase) -> tuple[State, PhaseReport]:
    """What `asymep` converges to with N, by forward mode through `nudged_steps` corrected steps as they run.

    Source: METHOD §8.
    """
    return derivative_signal(free, *_corrected(free))


def _corrected(free: FreePhase) -> tuple[Callable[[Context, Array], Dynamics], Context]:
    """The corrected dynamics of some examples under a nudge, without noise, and the context of all."""
    drive, shared = split_drive(free.constant, free.phase.state)

    def dynamics(own: Context, beta: Array) -> Dynamics:
        return _Correction(free.problem, shared | own["drive"], own["state"]).dynamics(own["targets"], beta)

    return dynamics, {"drive": drive, "targets": free.problem.targets, "state": free.phase.state}


class _Correction:
    """The corrected dynamics of examples around their free fixed points.

    Args:
        problem: network and parameters.
        constant: input drive of the examples.
        state: u* (batch, *units), real.
    """

    def __init__(self, problem: Problem, constant: State, state: State) -> None:
        self._problem, self._constant = problem, constant
        self._rest = activities(problem, state)
        system = problem.system
        # The correction also leads against the connections, so layers read each other in both directions.
        self._edges: Edges = (*system.edges, *((post, pre) for pre, post in system.edges))

        def drive_of(activity: State) -> State:
            return drive_at(system, problem.params, system.layers, activity, constant)

        self._at_rest, self._forward = jax.linearize(drive_of, self._rest)
        transposed = jax.linear_transpose(self._forward, self._rest)
        self._reverse: Product = lambda v: transposed(v)[0]

    def dynamics(self, targets: Array, beta: Array) -> Dynamics:
        """The corrected dynamics under the nudge `beta`, without noise."""
        system, params = self._problem.system, self._problem.params

        def update(state: State, layers: Layers) -> State:
            activity = {name: system.activation(name, u) for name, u in state.items()}
            away = {name: r - self._rest[name].astype(r.dtype) for name, r in activity.items()}
            updated = self._drive(layers, state, away)
            if "out" in layers:
                nudge = system.loss_gradient(params, activity["out"], targets)
                updated["out"] = updated["out"] + beta * nudge
            return updated

        return Dynamics(system.layers, self._edges, update)

    def _drive(self, layers: Sequence[str], state: State, away: State) -> State:
        """W(r) − (W' − W'ᵀ)(r − r*), W the drive and W' its derivative at r*: the −1 of J cancel."""
        back = self._apply(self._reverse, away)
        if self._problem.system.linear_drive:  # then W(r) − W'(r − r*) is W(r*), which does not change
            return {name: self._at_rest[name].astype(away[name].dtype) + back[name] for name in layers}
        ahead = self._apply(self._forward, away)
        total = drive(self._problem.system, self._problem.params, layers, state, self._constant)
        return {name: total[name] - ahead[name] + back[name] for name in layers}

    def _apply(self, product: Product, tangent: State) -> State:
        """A real product on real or complex tangents."""
        if not jnp.iscomplexobj(tangent["out"]):
            return dict(product(tangent))
        real = product({name: v.real for name, v in tangent.items()})
        imaginary = product({name: v.imag for name, v in tangent.items()})
        return {name: jax.lax.complex(real[name], imaginary[name]) for name in tangent}


ASYMEP = built_in("asymep", local_learning(asymep), asymep, corrected_phases)
ASYMEP_EXACT = built_in("asymep_exact", local_learning(asymep_exact), asymep_exact, corrected_phases)
