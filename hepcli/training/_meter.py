"""The asymmetry meter: every measure of METHOD §5 on a batch."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from hepcli.engine import (
    Comparison,
    FreePhase,
    JacobianParts,
    Params,
    Phase,
    Problem,
    References,
    System,
    activities,
    activity_jacobian_matrix,
    all_finite,
    compare,
    estimated_parts,
    estimator_of,
    exact_parts,
    free_phase,
    gradient_sums,
    leading_eigenvalues,
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
from hepcli.settings import MEASURES
from hepcli.training._learner import Preprocess, scale_pixels
from hepcli.training._measures import Measured
from hepcli.training._meter_records import BIASES, MeterSettings, Pictures, Sample

PICTURE_STEPS = 200  # of the nudged phases on circles: enough to tell a slow phase from a lost one
_KRYLOV_VECTORS = 64


class AsymmetryMeter:
    """Measures how far a network's learning signal is from the gradient, and why.

    In the precision of the parameters; float64 where references are to be trusted. References are free of
    noise; the run's own phases have theirs, from a fixed key.

    Args:
        system: the network.
        num_classes: classes of the targets.
        settings: what is measured.
        preprocess: uint8 images to real inputs.

    Attributes:
        batch: (params, images uint8 (batch, height, width, channels), labels int (batch,), counts bool
            (batch,), places int (batch,)) -> `Sample`.
        pictures: (params, images, labels, betas complex (points,), radii real (radii,), numbers) ->
            `Pictures`.
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
        # As decorators these would keep every meter, with its programs, as long as the process lives.
        self.batch = jax.jit(self._measure_batch)
        self.pictures = jax.jit(self._compute_pictures, static_argnums=5)

    def num_units(self, image_shape: Sequence[int]) -> int:
        """State units of one example."""
        zero_state = self.system.zero_state
        return num_units(jax.eval_shape(lambda: zero_state(jnp.zeros((1, *image_shape)))))

    def problem(self, params: Params, images: Array, labels: Array, places: Array) -> Problem:
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
            places=places,
        )

    def references(self, problem: Problem) -> tuple[FreePhase, References]:
        """The run's own free phase, and the references it leads to."""
        own = free_phase(problem)
        return own, references(problem, own.phase.state, self.settings.reference)

    def _measure_batch(
        self, params: Params, images: Array, labels: Array, counts: Array, places: Array
    ) -> Sample:
        """Measure a batch.

        Args:
            params: real parameters.
            images: uint8 (batch, height, width, channels).
            labels: int (batch,).
            counts: bool (batch,); False for what only fills the batch up.
            places: of the examples in the split, int (batch,), from which their noise grows.

        Returns:
            The measures of every example, those that do not count included.
        """
        problem = self.problem(params, images, labels, places)
        own_free, result = self.references(problem)
        state, signal = own_signal(problem, result.free)
        finite = jnp.ones_like(counts) if signal is None else all_finite(signal, 1)
        kept = result.settled & result.solved & counts & finite
        biases: dict[str, Comparison | None] = dict.fromkeys(BIASES)
        biases["asymmetry"] = compare(result.hep_exact, result.rbp)
        if signal is not None:
            biases["finite_nudge"] = compare(signal, result.hep_exact)
            biases["total"] = compare(signal, result.rbp)
        own, by_bptt = gradient_sums(
            problem, state, result.rbp if signal is None else signal, result.free, kept
        )
        eigenvalue, spectral_residual = self._eigenvalue(result.free)
        measured = Measured(own_free, result, self._parts(result.free), eigenvalue)
        return Sample(
            {key: measure.function(measured) for key, measure in MEASURES.items()},
            own_free.phase.settled,
            own_sums(problem, own_free, counts),
            result.settled,
            result.solved,
            finite,
            result.free.phase.residual,
            result.hep_exact_residual,
            result.rbp_residual,
            spectral_residual,
            biases,
            None if signal is None else own,
            by_bptt,
        )

    def trace(self, params: Params, image_shape: Sequence[int]) -> None:
        """Trace a measurement in float64, without computing anything, for the errors of own measures."""

        def arguments(tree: Params) -> tuple[Params, Array, Array, Array, Array]:
            exact: Params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), tree)
            places = jnp.arange(2)
            images = jnp.zeros((2, *image_shape), jnp.uint8)
            return exact, images, places, places < 2, places

        with jax.enable_x64(True):
            jax.eval_shape(self.batch, *jax.eval_shape(arguments, params))

    def _compute_pictures(
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
            numbers: numbers of points on them; none for a network that takes no complex nudges.

        Returns:
            Residuals, errors, and the matrices of one example where J is built.
        """
        places = jnp.arange(len(labels))
        _, result = self.references(self.problem(params, images, labels, places))
        free, kept = result.free, result.settled & result.solved
        jacobian = one_step = None
        if self._is_dense(free):
            constant = per_example(free.constant, free.phase.state)
            first = jnp.argmax(kept)
            constant, u = jax.tree.map(lambda leaf: leaf[first], (constant, free.phase.state))
            activity = activities(free.problem, u)
            jacobian = activity_jacobian_matrix(self.system, params, constant, activity)
            one_step = step_matrix(self.system, params, constant, u)
        if not numbers:
            return Pictures(kept, None, None, jacobian, one_step)
        relaxation = replace(
            self.settings.relaxation, nudged_steps=PICTURE_STEPS, tolerance=0.0, nudged_tolerance="same"
        )
        nudged = free._replace(problem=free.problem._replace(relaxation=relaxation))
        as_run = free._replace(problem=free.problem._replace(relaxation=self.settings.relaxation))
        circle = circle_of(self.settings.gradient.method)
        limit = {"rbp": result.rbp, "hep_exact": result.hep_exact}[circle.limit]
        return Pictures(
            kept,
            nudged_residuals(circle.phases(as_run), betas),
            scan_circles(nudged, circle.phases(nudged), limit, radii, numbers),
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
        key, places = jax.random.key(1), free.problem.places
        draws = estimated_parts(*arguments, activity, key, self.settings.num_draws, places)
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
