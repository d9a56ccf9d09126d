"""The two biases: against published signals, the estimators, and subsets of the examples."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.engine import (
    PhaseReport,
    ReferenceSettings,
    _bias,
    compare,
    estimate,
    free_phase,
    gradient_sums,
    nudged_residuals,
    own_signal,
    references,
    scan_circles,
)
from hepcli.settings import ESTIMATORS, GradientSettings

from .cases import ASYMMETRIC, BATCH, SYMMETRIC, distance, make_problem, on_arrays
from .reference import Reference, relative_error

SETTINGS = ReferenceSettings(max_steps=1000)
reference = functools.cache(Reference)


def converged(problem):
    return references(problem, free_phase(problem).phase.state, SETTINGS)


@functools.cache
def of_reference(name):
    """Our references and biases of a published network, N = 4, |β| = 0.05."""

    def measure(problem):
        found = converged(problem)
        _, signal = own_signal(problem, found.free)
        return (
            found.hep_exact,
            found.rbp,
            found.settled & found.solved,
            compare(signal, found.hep_exact),
            compare(found.hep_exact, found.rbp),
            compare(signal, found.rbp),
        )

    return on_arrays(measure, reference(name).problem("hep", 4, 0.05))


@pytest.mark.parametrize("name", ["mlp", "loop"])
def test_published_signals_and_their_biases(name):
    ref = reference(name)
    exact, rbp, fine, *comparisons = of_reference(name)
    theirs = {key: ref.under(f"error_signal/{key}") for key in ("exact", "rbp", "N4_beta0.05")}
    assert np.all(fine)
    assert relative_error(exact, theirs["exact"]) < 1e-8
    assert relative_error(rbp, theirs["rbp"]) < 1e-8
    pairs = [("N4_beta0.05", "exact"), ("exact", "rbp"), ("N4_beta0.05", "rbp")]
    for found, (signal, against) in zip(comparisons, pairs, strict=True):
        for layer in theirs["rbp"]:
            a, b = theirs[signal][layer], theirs[against][layer]
            sizes = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
            np.testing.assert_allclose(found.cosine[layer], np.sum(a * b, axis=1) / sizes, rtol=1e-8)
            error = np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)
            np.testing.assert_allclose(found.relative_error[layer], error, rtol=1e-5, atol=1e-8)


def test_the_reference_network_is_biased_as_published():
    """METHOD §8: hep stays at a relative error of 0.71 and a cosine of 0.769 to rbp, over the whole batch."""
    exact, rbp, *_ = of_reference("mlp")
    assert distance(exact, rbp) == pytest.approx(0.71, abs=0.005)
    inner, exact_size, rbp_size = (
        sum(np.sum(a[layer] * b[layer]) for layer in rbp)
        for a, b in ((exact, rbp), (exact, exact), (rbp, rbp))
    )
    assert inner / np.sqrt(exact_size * rbp_size) == pytest.approx(0.769, abs=5e-4)


@pytest.mark.parametrize("name", [*ASYMMETRIC, *SYMMETRIC])
def test_a_symmetric_network_has_only_the_bias_of_finite_nudges(name):
    problem = make_problem((ASYMMETRIC | SYMMETRIC)[name], "hep", num_points=2, beta_radius=0.2)

    def measure(problem):
        found = converged(problem)
        _, signal = own_signal(problem, found.free)
        return compare(signal, found.hep_exact), compare(found.hep_exact, found.rbp), found.solved

    finite, asymmetry, solved = on_arrays(measure, problem)
    assert np.all(solved)
    assert np.min(finite.relative_error["total"]) > 1e-6
    error = np.asarray(asymmetry.relative_error["total"])
    assert np.all(error < 1e-9) if name in SYMMETRIC else np.all(error > 1e-3)


@pytest.mark.parametrize("method", ["hep", "bptt"])
def test_gradients_of_the_kept_examples_alone(method):
    """As if the others were not in the batch, even when they hold infinities."""
    problem = make_problem(ASYMMETRIC["layered"], "hep", num_points=2, beta_radius=0.1)
    kept = np.array([True, False, True])
    subset = problem._replace(
        inputs=problem.inputs[kept],
        targets=problem.targets[kept],
        gradient=GradientSettings(method, 2, 0.1),
    )

    def measure(problem):
        free = free_phase(problem)
        spoilt = {name: u.at[1].set(jnp.inf) for name, u in free.phase.state.items()}
        free = free._replace(phase=free.phase._replace(state=spoilt))
        _, signal = own_signal(problem, free_phase(problem))
        signal = {name: e.at[1].set(jnp.nan) for name, e in signal.items()}
        return gradient_sums(problem, spoilt, signal, free, jnp.asarray(kept))

    own, by_bptt = on_arrays(measure, problem)
    expected = on_arrays(estimate, subset).gradient
    found = by_bptt if method == "bptt" else own
    for name in expected:
        if name != "readout":  # the direct part counts every example; no measure uses it
            assert distance(found[name], {k: 2 * g for k, g in expected[name].items()}) < 1e-10


def test_circles_are_those_of_the_estimator():
    problem = make_problem(ASYMMETRIC["lateral"])
    radii, numbers = (0.05, 0.2), (1, 2, 3, 4, 6)

    def measure(problem):
        found = converged(problem)
        patient = found.free._replace(problem=problem)
        signals = [
            own_signal(problem._replace(gradient=GradientSettings("hep", n, radius)), found.free)[1]
            for radius in radii
            for n in numbers
        ]
        errors = [compare(signal, found.hep_exact).relative_error["total"] for signal in signals]
        return jnp.stack(errors), scan_circles(
            patient, ESTIMATORS["hep"].nudged_phases(patient), found.hep_exact, jnp.asarray(radii), numbers
        )

    errors, scan = on_arrays(measure, problem)
    np.testing.assert_allclose(scan.relative_error.reshape(len(errors), BATCH), errors, rtol=1e-6, atol=1e-12)
    medians = np.median(scan.relative_error[0], axis=-1)
    assert np.all(medians[1:] < 0.3 * medians[:-1])  # geometric in N inside the region
    assert scan.residual.shape == scan.relative_error.shape


def test_residuals_of_the_stability_map():
    problem = make_problem(ASYMMETRIC["loop"])
    betas = np.array([0.1, 0.1j, -0.2 + 0.1j])

    def measure(problem):
        phases = ESTIMATORS["hep"].nudged_phases(free_phase(problem))
        return nudged_residuals(phases, jnp.asarray(betas)), phases(jnp.asarray(betas)).residual

    found, expected = on_arrays(measure, problem)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-14)


def test_what_has_no_fixed_point_is_flagged():
    problem = make_problem(ASYMMETRIC["lateral"])
    strong = {
        name: weights | {"kernel": 40 * weights["kernel"]} if name != "readout" else weights
        for name, weights in problem.params.items()
    }

    def measure(problem):
        found = converged(problem)
        return found.settled, found.solved, found.free.phase.residual

    settled, _, residual = on_arrays(measure, problem._replace(params=strong))
    assert not np.all(settled)
    assert np.all(np.asarray(residual)[~np.asarray(settled)] > 1e-8)


@pytest.mark.parametrize("left", ["hep_exact", "rbp"])
def test_references_are_solved_where_both_of_them_are(monkeypatch, left):
    """Either may converge far more slowly than the other."""
    problem = make_problem(ASYMMETRIC["layered"])
    start = free_phase(problem).phase.state

    def solver(residual):
        report = PhaseReport(*(jnp.full(BATCH, value) for value in (residual, True, True, 9)))
        return lambda free: (start, report)

    for name in ("hep_exact", "rbp"):
        monkeypatch.setattr(_bias, name, solver(1.0 if name == left else 1e-12))
    found = references(problem, start, ReferenceSettings(max_steps=2))
    assert not np.any(found.solved)
