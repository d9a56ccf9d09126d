"""The asymmetry meter: what counts, what is left out, and that batches do not matter."""

import functools
import json
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.engine import ReferenceSettings, estimate
from hepcli.settings import ESTIMATORS, GradientSettings
from hepcli.training import AsymmetryMeter, MeterSettings, batch_size_for, summarise
from hepcli.training._summary import _statistic
from tests.dense import dense_network

from .tiny import NETWORK, RELAXATION, params, split

EXAMPLES = 6
UNITS = 9
EVERY = jnp.ones(EXAMPLES, bool), jnp.arange(EXAMPLES)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def meter(method="hep", network=NETWORK, **settings) -> AsymmetryMeter:
    reference = ReferenceSettings(max_steps=400)
    return AsymmetryMeter(
        network, 3, MeterSettings(RELAXATION, GradientSettings(method, 2, 0.1), reference, **settings)
    )


def in_float64(out=4):
    kept = {"in-l1": (4, 5), "l1-out": (5, out), "out-l1": (out, 5), "readout": (out, 3)}
    return {
        name: {
            leaf: jnp.asarray(np.asarray(value)[tuple(map(slice, kept[name][-value.ndim :]))], jnp.float64)
            for leaf, value in weights.items()
        }
        for name, weights in params().items()
    }


def measured(own, size=EXAMPLES):
    """The summary of the first examples in batches of `size`, the last one filled up."""
    images, labels = split()
    samples, counts = [], []
    for start in range(0, EXAMPLES, size):
        rows = np.arange(start, start + size)
        counts.append(rows < EXAMPLES)
        rows = np.minimum(rows, EXAMPLES - 1)
        weights = in_float64(dict(own.system.shapes)["out"][0])
        places = jnp.asarray(start + np.arange(size))
        batch = own.batch(weights, images[rows], labels[rows], jnp.asarray(counts[-1]), places)
        samples.append(jax.device_get(batch))
    return summarise(samples, counts)


def numbers(tree):
    return np.array(jax.tree.leaves(tree), dtype=float)


def network_for(method):
    if ESTIMATORS[method].clamps_output:
        return dense_network(
            (("l1", 5), ("out", 3)), (("in", "l1"), ("l1", "out"), ("out", "l1")), 4, 3,
            loss_name="squared_error", readout=False,
        )  # fmt: skip
    return NETWORK.without_feedback if ESTIMATORS[method].is_feedforward else NETWORK


@functools.cache
def of_method(method):
    return measured(meter(method, network_for(method)))


@pytest.mark.parametrize("noise_std", [0.0, 0.01])
def test_batches_do_not_matter(noise_std):
    """Not even with noise, which grows from the place of an example in the split."""
    own = meter()
    own.settings = own.settings._replace(relaxation=replace(RELAXATION, noise_std=noise_std))
    whole = measured(own)
    np.testing.assert_allclose(numbers(measured(own, size=4)), numbers(whole), rtol=1e-7, atol=1e-12)
    if noise_std:
        assert whole["relative_error"] != of_method("hep")["relative_error"]


@pytest.mark.parametrize("method", ESTIMATORS)
def test_every_estimator_is_measured(method):
    record = of_method(method)
    json.dumps(record, allow_nan=False)
    assert record["examples_used"] == EXAMPLES
    assert record["cosine"]["asymmetry"]["total"] < 0.999
    own = record["relative_error"]["total"]["total"]
    if ESTIMATORS[method].clamps_output:  # no nudge: in another direction, but not the opposite one
        assert 0.5 < record["cosine"]["finite_nudge"]["total"] < 0.9999
        return
    if method == "bptt":
        assert own is None
        assert set(record["gradient_cosine"].values()) == {None}
        return
    if ESTIMATORS[method].is_feedforward:
        centred = method != "predictive_coding"
        assert record["gradient_cosine"]["total"] > (0.9999 if centred else 0.99)
        assert own < (1e-2 if centred else 0.2)
        return
    assert record["gradient_cosine"].keys() == {"in-l1", "l1-out", "out-l1", "total"}
    unbiased = "rbp" in method or method in ("asymep", "asymep_exact", "dyadic_ep")
    if unbiased:  # up to the steps the run takes, and for asymep its finite nudge
        assert own < 1e-2
    else:
        assert own == pytest.approx(record["relative_error"]["asymmetry"]["total"], rel=0.2)
    assert record["gradient_cosine"]["total"] > (0.9999 if unbiased else 0.5)


def test_unsettled_examples_and_their_share_go_by_one_free_phase():
    """The mean state of online_hep is no fixed point, but a free phase would settle."""
    record = of_method("online_hep")
    assert (record["unsettled"], record["unsettled_signal_share"]) == (0, 0.0)


def test_large_networks_are_estimated():
    """Without the matrix, J's parts come out within a few per cent, and with an error to match."""
    exact, estimated = of_method("hep"), measured(meter(dense_units=5, num_draws=300))
    for name in ("jacobian_symmetry", "homeostatic_loss"):
        error = estimated["standard_error"][name]
        assert abs(estimated[name] - exact[name]) < 5 * error
        assert error < 0.2 * exact[name]
    assert exact["standard_error"]["jacobian_symmetry"] < 1e-12


def test_examples_without_a_fixed_point_are_named_and_left_out():
    impatient = meter().settings._replace(
        relaxation=replace(RELAXATION, free_steps=1), reference=ReferenceSettings(max_steps=1)
    )
    record = measured(AsymmetryMeter(NETWORK, 3, impatient))
    assert record["examples_used"] == 0
    assert record["left_out"]["no_fixed_point"] == list(range(EXAMPLES))
    json.dumps(record, allow_nan=False)
    assert record["cosine"]["asymmetry"]["total"] is None
    assert record["jacobian_symmetry"] is None
    assert record["gradient_cosine"]["total"] is None
    assert math.isfinite(record["log10_residual"])


def with_relaxation(own, **changes):
    settings = own.settings._replace(relaxation=replace(RELAXATION, **changes))
    return AsymmetryMeter(own.system, 3, settings)


def test_references_do_not_stop_where_nudged_phases_do():
    record = measured(with_relaxation(meter(), nudged_tolerance=1e-3))
    assert record["examples_used"] == EXAMPLES
    assert record["cosine"]["asymmetry"] == of_method("hep")["cosine"]["asymmetry"]


def test_the_gradient_by_bptt_is_free_of_noise():
    """With a signal that has none either."""
    record = measured(with_relaxation(meter("hep_exact"), noise_std=0.05))
    assert record["gradient_cosine"]["total"] == pytest.approx(
        of_method("hep_exact")["gradient_cosine"]["total"], abs=1e-6
    )


def test_signals_that_are_not_finite_are_named_and_leave_the_others_alone():
    """As if the run's own nudged phase had overflowed for some."""
    images, labels = split(EXAMPLES)
    sample = jax.device_get(meter().batch(in_float64(), images, labels, *EVERY))
    finite = np.arange(EXAMPLES) != 2
    record = summarise([sample._replace(finite=finite)], [np.ones(EXAMPLES, bool)])
    whole = summarise([sample], [np.ones(EXAMPLES, bool)])
    assert record["left_out"]["not_finite"] == [2]
    assert record["examples_used"] == EXAMPLES
    assert record["cosine"]["asymmetry"] == whole["cosine"]["asymmetry"]
    expected = np.mean(np.asarray(sample.biases["total"].cosine["total"])[finite])
    assert record["cosine"]["total"]["total"] == pytest.approx(expected)


@pytest.mark.parametrize("method", [name for name, own in ESTIMATORS.items() if not own.learns_locally])
def test_rules_of_their_own_are_scored_by_what_they_learn(method):
    own = meter(method, network_for(method))
    images, labels = split(EXAMPLES)
    weights = in_float64(dict(own.system.shapes)["out"][0])
    sample = jax.device_get(own.batch(weights, images, labels, *EVERY))
    at_rest = own.problem(weights, images, labels, EVERY[1])
    long = at_rest._replace(relaxation=replace(RELAXATION, free_steps=2000))
    expected = jax.device_get(estimate(long).gradient_sum)
    for name, weights in expected.items():
        np.testing.assert_allclose(
            sample.own_gradient[name]["kernel"], weights["kernel"], rtol=1e-6, atol=1e-9
        )


def test_a_layer_without_a_signal_has_no_cosine():
    """Nothing leads back to l1, so the adjoint there comes from the way up alone; hep exact gives zero."""
    network = dense_network(
        (("l1", 5), ("out", 4)), (("in", "l1"), ("l1", "out")), input_size=4, num_classes=3
    )
    own = meter(network=network)
    weights = {name: w for name, w in in_float64().items() if name != "out-l1"}
    images, labels = split(EXAMPLES)
    sample = own.batch(weights, images, labels, *EVERY)
    record = summarise([jax.device_get(sample)], [np.ones(EXAMPLES, bool)])
    assert record["cosine"]["asymmetry"]["l1"] is None
    assert record["relative_error"]["asymmetry"]["l1"] == pytest.approx(1.0)
    assert record["relative_error"]["asymmetry"]["out"] < 1e-10


def test_batch_sizes():
    assert batch_size_for(522) == 256
    assert 1 <= batch_size_for(60_000) < 64
    assert batch_size_for(10**8) == 1


def test_the_error_of_a_mean_falls_with_the_root_of_the_examples():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    assert _statistic(values) == pytest.approx((2.5, math.sqrt(5 / 3) / 2))
    assert _statistic(np.tile(values, 100)).standard_error == pytest.approx(math.sqrt(1.25) / 20, rel=2e-3)


def test_the_stability_map_is_of_the_steps_of_the_run():
    """After one of them nothing has settled; the circles beside it run on until it has."""
    images, labels = split()
    relaxation = replace(RELAXATION, nudged_steps=1)
    own = AsymmetryMeter(NETWORK, 3, meter().settings._replace(relaxation=relaxation))
    betas, circles = jnp.asarray([0.1 + 0.1j]), (jnp.asarray([0.1]), (1, 2, 3))
    found = own.pictures(in_float64(), images[:1], labels[:1], betas, *circles)
    assert np.all(np.asarray(found.residual_map) > 1e-4)
