"""The asymmetry meter: every measure of METHOD §5 on a batch, and what the batches come to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from hepcli.engine import (
    CircleScan,
    Comparison,
    FreePhase,
    Gradient,
    JacobianParts,
    Params,
    Phase,
    Problem,
    References,
    ReferenceSettings,
    SignalSums,
    System,
    activities,
    activity_jacobian_matrix,
    compare,
    estimated_parts,
    estimator_of,
    exact_parts,
    example_norm,
    free_phase,
    gradient_sums,
    jacobian_symmetry,
    leading_eigenvalues,
    log10_residual,
    nudged_residuals,
    num_units,
    own_signal,
    own_sums,
    per_example,
    references,
    scan_circles,
    step_matrix,
    step_product,
)
from hepcli.settings import GradientSettings, RelaxationSettings
from hepcli.training._metrics import finite_or_none, share_of
from hepcli.training._step import Preprocess, scale_pixels

BIASES = ("finite_nudge", "asymmetry", "total")
DENSE_UNITS = 2000  # up to here J is built as a matrix: 32 MB
PICTURE_STEPS = 200  # of the nudged phases in the figures: enough to tell a slow phase from a lost one
_KRYLOV_VECTORS = 64
_DRAWS = 64


class MeterSettings(NamedTuple):
    """What is measured, and against what.

    Attributes:
        relaxation: the run's own phases.
        gradient: the run's own estimator.
        reference: how far the references are converged.
        dense_units: most units for which J is built; above, its parts are estimated.
        num_draws: draws of those estimates.
    """

    relaxation: RelaxationSettings
    gradient: GradientSettings
    reference: ReferenceSettings = ReferenceSettings()
    dense_units: int = DENSE_UNITS
    num_draws: int = _DRAWS


class Sample(NamedTuple):
    """Measures of a batch, per example (batch,), and gradients summed over the examples that count.

    Attributes:
        residual: ‖F(u)‖ at the end of the run's own free phase.
        own_settled: whether it is at most `converged_residual`.
        sums: the run's own error signals at its end, summed; None where there are none.
        settled: a free fixed point was reached by going on; one of unsettled examples may be another than
            the run's own steps would have come to.
        solved: so were both linear solves at it.
        fixed_point_residual: ‖F(u*)‖ there.
        hep_exact_residual: of the solve, relative to its solution.
        rbp_residual: likewise.
        parts: squared norms of the parts of J.
        spectral_radius: of the one-step map at u*.
        spectral_residual: of that eigenvalue, absolute.
        biases: `BIASES` -> comparison; None where the method has no error vector.
        own_gradient: of the run's own signal.
        bptt_gradient: by bptt.
    """

    residual: Array
    own_settled: Array
    sums: SignalSums | None
    settled: Array
    solved: Array
    fixed_point_residual: Array
    hep_exact_residual: Array
    rbp_residual: Array
    parts: JacobianParts
    spectral_radius: Array
    spectral_residual: Array
    biases: dict[str, Comparison | None]
    own_gradient: Gradient | None
    bptt_gradient: Gradient


class Pictures(NamedTuple):
    """What the figures show.

    Attributes:
        kept: examples with a fixed point and solved references (batch,).
        residual_map: ‖F(u; β)‖ after `PICTURE_STEPS` nudged steps (points, batch).
        circles: error of the Cauchy sum, and its residuals.
        jacobian: J of the first kept example in activity coordinates; None where it is too large.
        one_step: the Jacobian of the one-step map at its u*; likewise.
    """

    kept: Array
    residual_map: Array
    circles: CircleScan
    jacobian: Array | None
    one_step: Array | None


class AsymmetryMeter:
    """Measures how far a network's learning signal is from the gradient, and why.

    In the precision of the parameters; float64 where references are to be trusted. References are free of
    noise; the run's own phases have theirs, from a fixed key.

    Args:
        system: the network.
        num_classes: classes of the targets.
        settings: what is measured.
        preprocess: uint8 images to real inputs.
    """

    def __init__(
        self,
        system: System,
        num_classes: int,
        settings: MeterSettings,
        preprocess: Preprocess = scale_pixels,
    ) -> None:
        self.system = system
        self.settings = settings
        self._num_classes = num_classes
        self._preprocess = preprocess

    def num_units(self, image_shape: Sequence[int]) -> int:
        """State units of one example."""
        zero_state = self.system.zero_state
        return num_units(jax.eval_shape(lambda: zero_state(jnp.zeros((1, *image_shape)))))

    def problem(self, params: Params, images: Array, labels: Array) -> Problem:
        """The batch as the engine takes it, in the precision of the parameters."""
        dtype = jax.tree.leaves(params)[0].dtype
        return Problem(
            self.system,
            params,
            self._preprocess(images).astype(dtype),
            jax.nn.one_hot(labels, self._num_classes, dtype=dtype),
            self.settings.relaxation,
            self.settings.gradient,
            jax.random.key(0),
        )

    def references(self, problem: Problem) -> tuple[FreePhase, References]:
        """The run's own free phase, and the references it leads to."""
        own = free_phase(problem)
        return own, references(problem, own.phase.state, self.settings.reference)

    @partial(jax.jit, static_argnums=0)
    def batch(self, params: Params, images: Array, labels: Array, counts: Array) -> Sample:
        """Measure a batch.

        Args:
            params: real parameters.
            images: uint8 (batch, height, width, channels).
            labels: int (batch,).
            counts: bool (batch,); False for what only fills the batch up.

        Returns:
            The measures of every example, those that do not count included.
        """
        problem = self.problem(params, images, labels)
        own_free, found = self.references(problem)
        kept = found.settled & found.solved & counts
        state, signal = own_signal(problem, found.free)
        biases: dict[str, Comparison | None] = dict.fromkeys(BIASES)
        biases["asymmetry"] = compare(found.hep_exact, found.rbp)
        if signal is not None:
            biases["finite_nudge"] = compare(signal, found.hep_exact)
            biases["total"] = compare(signal, found.rbp)
        own, by_bptt = gradient_sums(
            problem, state, found.rbp if signal is None else signal, found.free, kept
        )
        eigenvalue, spectral_residual = self._eigenvalue(found.free)
        return Sample(
            own_free.phase.residual,
            own_free.phase.settled,
            own_sums(problem, own_free, counts),
            found.settled,
            found.solved,
            found.free.phase.residual,
            found.hep_exact_residual,
            found.rbp_residual,
            self._parts(found.free),
            jnp.abs(eigenvalue),
            spectral_residual,
            biases,
            None if signal is None else own,
            by_bptt,
        )

    @partial(jax.jit, static_argnums=(0, 6))
    def pictures(
        self,
        params: Params,
        images: Array,
        labels: Array,
        betas: Array,
        radii: Array,
        numbers: tuple[int, ...],
    ) -> Pictures:
        """What the figures show, for a few examples.

        Args:
            params: real parameters.
            images: uint8 (batch, height, width, channels).
            labels: int (batch,).
            betas: complex nudges of the stability map (points,).
            radii: radii of the circles (radii,).
            numbers: numbers of points on them.

        Returns:
            Residuals, errors, and the matrices of one example where J is built.
        """
        _, found = self.references(self.problem(params, images, labels))
        free, kept = found.free, found.settled & found.solved
        jacobian = one_step = None
        if self._is_dense(free):
            constant = per_example(free.constant, free.phase.state)
            first = jnp.argmax(kept)
            constant, u = jax.tree.map(lambda leaf: leaf[first], (constant, free.phase.state))
            activity = activities(free.problem, u)
            jacobian = activity_jacobian_matrix(self.system, params, constant, activity)
            one_step = step_matrix(self.system, params, constant, u)
        relaxation = replace(self.settings.relaxation, nudged_steps=PICTURE_STEPS, tolerance=0.0)
        nudged = free._replace(problem=free.problem._replace(relaxation=relaxation))
        circle = circle_of(self.settings.gradient.method)
        phases = circle.phases(nudged)
        limit = {"rbp": found.rbp, "hep_exact": found.hep_exact}[circle.limit]
        return Pictures(
            kept,
            nudged_residuals(phases, betas),
            scan_circles(nudged, phases, limit, radii, numbers),
            jacobian,
            one_step,
        )

    def _is_dense(self, free: FreePhase) -> bool:
        return num_units(free.phase.state) <= self.settings.dense_units

    def _parts(self, free: FreePhase) -> JacobianParts:
        arguments = self.system, free.problem.params, free.constant
        activity = activities(free.problem, free.phase.state)
        if self._is_dense(free):
            return exact_parts(*arguments, activity)
        draws = estimated_parts(*arguments, activity, jax.random.key(1), self.settings.num_draws)
        return JacobianParts(draws.symmetric.mean(axis=0), draws.antisymmetric.mean(axis=0))

    def _eigenvalue(self, free: FreePhase) -> tuple[Array, Array]:
        product = step_product(self.system, free.problem.params, free.constant, free.phase.state)
        return leading_eigenvalues(product, free.phase.state, jax.random.key(2), _KRYLOV_VECTORS)


class Circle(NamedTuple):
    """Nudged phases and the name of the limit of their Cauchy sum."""

    phases: Callable[[FreePhase], Callable[[Array], Phase]]
    limit: str


def circle_of(method: str) -> Circle:
    """The Cauchy sum that the figures show: of the method itself, or where it has none of `hep`."""
    own = estimator_of(method)
    if own.nudged_phases is None:
        return circle_of("hep")
    return Circle(own.nudged_phases, own.limit)


def batch_size_for(units: int) -> int:
    """Examples measured at once, so that a few dozen states fit into memory."""
    return max(1, min(256, 2**18 // units))


class _Statistic(NamedTuple):
    """Mean and standard error over examples; None where there is nothing to average."""

    mean: float | None
    standard_error: float | None


def _statistic(values: NDArray[Any]) -> _Statistic:
    """Over the values that are defined."""
    values = values[np.isfinite(values)]
    if not values.size:
        return _Statistic(None, None)
    error = float(values.std(ddof=1) / np.sqrt(values.size)) if values.size > 1 else None
    return _Statistic(float(values.mean()), error)


def summarise(samples: Sequence[Sample], counts: Sequence[NDArray[np.bool_]], units: int) -> dict[str, Any]:
    """What the samples come to, with the keys of `hep measure-asymmetry --json`.

    Args:
        samples: one for each batch, on the host.
        counts: which examples of each count.
        units: state units of an example.

    Returns:
        Means over the examples with a fixed point and solved references; their standard errors under
        ``standard_error``; which examples were left out, by their number, under ``left_out``.
    """
    chosen = np.concatenate(counts)

    def column(values: Sequence[Array]) -> NDArray[Any]:
        return np.concatenate([np.asarray(v) for v in values])[chosen]

    settled, solved = column([s.settled for s in samples]), column([s.solved for s in samples])
    kept = settled & solved
    parts = JacobianParts(
        column([s.parts.symmetric for s in samples])[kept],
        column([s.parts.antisymmetric for s in samples])[kept],
    )
    single = {
        "jacobian_symmetry": np.asarray(jacobian_symmetry(parts)),
        "homeostatic_loss": 2 * parts.antisymmetric / units,
        "spectral_radius": column([s.spectral_radius for s in samples])[kept],
        "log10_residual": np.asarray(log10_residual(jnp.asarray(column([s.residual for s in samples])))),
    }
    statistics = {name: _statistic(values) for name, values in single.items()}
    record: dict[str, Any] = {name: found.mean for name, found in statistics.items()}
    settled_in_time = column([s.own_settled for s in samples])
    record["converged"] = float(settled_in_time.mean())
    record["unsettled"] = int((~settled_in_time).sum())
    record["unsettled_signal_share"] = _unsettled_share([s.sums for s in samples])
    errors: dict[str, Any] = {name: found.standard_error for name, found in statistics.items()}
    for measure in ("cosine", "relative_error"):
        tables = {bias: _by_layer(samples, bias, measure, column, kept) for bias in BIASES}
        record[measure] = {bias: {k: v.mean for k, v in table.items()} for bias, table in tables.items()}
        errors[measure] = {
            bias: {k: v.standard_error for k, v in table.items()} for bias, table in tables.items()
        }
    record["gradient_cosine"] = _gradient_cosine(samples)
    record["standard_error"] = errors
    numbers = np.arange(kept.size)
    record["examples_used"] = int(kept.sum())
    record["left_out"] = {
        "no_fixed_point": numbers[~settled].tolist(),
        "not_solved": numbers[settled & ~solved].tolist(),
    }
    record["largest_residual"] = {
        name: _largest(column([getattr(s, name) for s in samples])[kept])
        for name in ("fixed_point_residual", "hep_exact_residual", "rbp_residual", "spectral_residual")
    }
    return record


def _by_layer(
    samples: Sequence[Sample], bias: str, measure: str, column: Any, kept: NDArray[np.bool_]
) -> dict[str, _Statistic]:
    comparisons = [sample.biases[bias] for sample in samples]
    layers = list(getattr(samples[0].biases["asymmetry"], measure))
    if comparisons[0] is None:
        return dict.fromkeys(layers, _Statistic(None, None))
    return {
        name: _statistic(column([getattr(c, measure)[name] for c in comparisons])[kept]) for name in layers
    }


def _gradient_cosine(samples: Sequence[Sample]) -> dict[str, float | None]:
    """Per connection and in total, readout left out: its gradient does not depend on the signal."""
    by_bptt = _summed([sample.bptt_gradient for sample in samples])
    if samples[0].own_gradient is None:
        return dict.fromkeys([*by_bptt, "total"])
    own = _summed([sample.own_gradient for sample in samples if sample.own_gradient is not None])
    own["total"], by_bptt["total"] = (np.concatenate(list(tree.values())) for tree in (own, by_bptt))
    return {name: _cosine(own[name], by_bptt[name]) for name in own}


def _unsettled_share(sums: Sequence[SignalSums | None]) -> float | None:
    """Norm of the error signals of unsettled examples, summed over all batches, over that of all's."""
    known = [own for own in sums if own is not None]
    if not known:
        return None
    total: SignalSums = jax.tree.map(lambda *leaves: sum(leaves), *known)
    return share_of(float(example_norm(total.unsettled, 0)), float(example_norm(total.total, 0)))


def _summed(gradients: Sequence[Gradient]) -> dict[str, NDArray[Any]]:
    """One vector a connection."""
    total: Mapping[str, Mapping[str, Any]] = jax.tree.map(lambda *leaves: sum(leaves), *gradients)
    return {
        name: np.concatenate([np.ravel(leaf) for leaf in weights.values()])
        for name, weights in total.items()
        if name != "readout"
    }


def _cosine(a: NDArray[Any], b: NDArray[Any]) -> float | None:
    sizes = float(np.linalg.norm(a) * np.linalg.norm(b))
    return finite_or_none(float(a @ b) / sizes) if sizes else None


def _largest(values: NDArray[Any]) -> float | None:
    return finite_or_none(float(values.max())) if values.size else None
