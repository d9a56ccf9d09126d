"""Examples whose free phase does not settle: the published code's numbers, and what becomes of them."""

import functools
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.engine import Phase, estimate, example_norm, free_phase, signal_sums
from hepcli.engine._nudges import NudgeCircle
from hepcli.settings import ESTIMATORS, GradientSettings

from .cases import CASES, distance, leaves, make_problem, on_arrays
from .reference import Reference, relative_error
from .test_reference import nested, second, settings_of

reference = functools.cache(lambda: Reference("unsettled"))


@functools.cache
def ours():
    """Our value of every array of the file, by its name there."""
    ref = reference()

    def signals(problem):
        free = free_phase(problem)
        found = nested("free/state", free.phase.state) | {"free/residual": free.phase.residual}
        for key in second("error_signal", ref.arrays):
            gradient = replace(settings_of(key), adjoint_steps=ref.meta["nudged_steps"])
            own = problem._replace(gradient=gradient)
            vector, _ = ESTIMATORS[gradient.method].error_signal(free._replace(problem=own))
            found |= nested(f"error_signal/{key}", vector)
        for key in second("gradient", ref.arrays):
            gradient = replace(settings_of(key), adjoint_steps=ref.meta["nudged_steps"])
            found |= nested(f"gradient/{key}", estimate(problem._replace(gradient=gradient)).gradient)
        return found

    return on_arrays(signals, ref.problem())


def test_no_array_is_left_unchecked():
    stored = {key for key in reference().arrays if not key.startswith("params/")} - {"x", "y"}
    in_file = {key.replace("readout/Dense_0", "readout") for key in ours()}
    assert in_file == stored


def test_most_examples_alternate():
    settled = np.array(reference().meta["settled"])
    assert settled.sum() == 2
    np.testing.assert_array_equal(np.asarray(ours()["free/residual"]) < 1e-3, settled)


@pytest.mark.parametrize("which", ["settled", "unsettled"])
@pytest.mark.parametrize("key", ["free/state", "free/residual", "error_signal"])
def test_states_and_signals_agree_with_the_published_code(key, which):
    chosen = np.array(reference().meta["settled"]) == (which == "settled")
    errors = {
        name: relative_error({name: np.asarray(found)[chosen]}, {name: reference().arrays[name][chosen]})
        for name, found in ours().items()
        if name.startswith(key) and not (key == "free/residual" and which == "settled")  # rounding there
    }
    print(which, max(errors.values(), default=0.0))
    assert not {name: error for name, error in errors.items() if not error < 1e-8}


def test_gradients_agree_with_the_published_code():
    errors = {}
    for name, found in ours().items():
        if name.startswith("gradient/"):
            stored = name.replace("readout/Dense_0", "readout")
            errors[name] = relative_error({name: found}, {name: reference().arrays[stored]})
    print(max(errors.values()))
    assert not {name: error for name, error in errors.items() if not error < 1e-8}


@functools.cache
def skipping(method: str):
    """An estimate that skips what has not settled, and one of the settled examples alone."""
    problem = reference().problem(method)
    relaxation = replace(problem.relaxation, free_steps=150, nudged_steps=20)
    skip = problem._replace(relaxation=replace(relaxation, unsettled="skip"))
    found = on_arrays(estimate, skip)
    settled = np.asarray(found.free.settled)
    alone = on_arrays(
        estimate,
        problem._replace(
            relaxation=relaxation, inputs=problem.inputs[settled], targets=problem.targets[settled]
        ),
    )
    return settled, found, alone


ON_THE_REFERENCE = [  # which has feedback and a readout
    name for name, own in ESTIMATORS.items() if not own.is_feedforward and not own.clamps_output
]


@pytest.mark.parametrize("method", sorted(set(ON_THE_REFERENCE) - {"online_hep"}))
def test_skipped_examples_leave_the_gradient_of_the_others(method):
    settled, found, alone = skipping(method)
    assert 0 < settled.sum() < len(settled)
    assert distance(found.gradient, alone.gradient) < 1e-12


def test_online_hep_skips_by_its_mean_state():
    problem = reference().problem("online_hep", num_points=4, beta_radius=0.01)
    relaxation = replace(problem.relaxation, nudged_steps=60, converged_residual=0.1, unsettled="skip")
    found = on_arrays(estimate, problem._replace(relaxation=relaxation))
    learned = np.asarray(found.free.settled)
    assert 0 < learned.sum() < len(learned)
    everything = on_arrays(estimate, problem._replace(relaxation=replace(relaxation, unsettled="learn")))
    assert distance(found.gradient, everything.gradient) > 1e-3


def test_an_example_of_online_hep_has_settled_where_it_has_at_every_visit():
    problem = reference().problem("online_hep", num_points=4, beta_radius=0.01)
    relaxation = replace(problem.relaxation, nudged_steps=5, converged_residual=0.1)
    nudged = on_arrays(lambda own: estimate(own).nudged, problem._replace(relaxation=relaxation))
    np.testing.assert_array_equal(nudged.settled, np.asarray(nudged.residual) <= 0.1)


def test_a_circle_has_settled_where_all_of_its_points_have():
    def phase(residual):
        residual = jnp.asarray(residual)
        return Phase({}, residual, residual <= 0.1, residual < 2, jnp.full(residual.shape, 7))

    record = NudgeCircle(1.0, phase([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]), phase([[0.0, 1.0, 0.0]])).record
    assert record.settled.tolist() == [True, False, False]
    np.testing.assert_array_equal(record.settled, record.residual <= 0.1)


@pytest.mark.parametrize("method", ["hep", "rbp", "bptt"])
def test_where_nothing_settles_nothing_is_learned(method):
    problem = make_problem(CASES["layered"], method)
    relaxation = replace(problem.relaxation, converged_residual=-1.0, unsettled="skip")
    found = on_arrays(estimate, problem._replace(relaxation=relaxation))
    assert all(np.all(leaf == 0) for leaf in leaves(found.gradient))


@pytest.mark.parametrize("method", ["hep", "hep_exact", "rbp", "dyadic_ep", "contrastive_ep"])
def test_a_skipped_example_may_hold_anything(method):
    problem = make_problem(CASES["layered"], method)
    relaxation = replace(problem.relaxation, unsettled="skip")
    bad = problem.inputs.at[1, 2].set(np.nan)
    found = on_arrays(estimate, problem._replace(inputs=bad, relaxation=relaxation))
    assert np.asarray(found.free.settled).tolist() == [True, False, True]
    # The kernel of the input multiplies the bad input itself; everything else is finite.
    rest = {name: weights for name, weights in found.gradient.items() if name != "in-l1"}
    assert all(np.isfinite(leaf).all() for leaf in leaves(rest))
    for part in signal_sums(found.signal, found.free):
        assert np.isfinite(example_norm(part, 0))


def test_the_share_of_unsettled_examples_in_the_signal():
    ref = reference()
    vector = {layer: ref.arrays[f"error_signal/exact/{layer}"] for layer in ("l1", "l2", "out")}
    settled = np.array(ref.meta["settled"])

    def sums(problem):
        free = free_phase(problem)
        return signal_sums(ESTIMATORS["hep_exact"].error_signal(free)[0], free.phase)

    found = on_arrays(sums, ref.problem("hep_exact"))
    for name, e in vector.items():
        np.testing.assert_allclose(found.total[name], e.sum(axis=0), rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(found.unsettled[name], e[~settled].sum(axis=0), rtol=1e-8, atol=1e-12)


def test_the_signal_of_bptt_is_the_series_of_as_many_terms():
    problem = make_problem(CASES["lateral"], "bptt")  # synchronous
    problem = problem._replace(relaxation=replace(problem.relaxation, nudged_steps=7))
    series = problem._replace(gradient=GradientSettings("neumann_rbp", adjoint_steps=6))
    signal = on_arrays(lambda p: estimate(p).signal, problem)
    assert distance(signal, on_arrays(lambda p: estimate(p).error_vector, series)) < 1e-12
