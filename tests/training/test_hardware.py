"""What devices cannot do: the laws of quantised weights, mismatch, read noise and coarse updates."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.settings import HardwareSettings
from hepcli.training import build_optimizer, init_state, quantised, weights_as_read
from hepcli.training import updates_as_taken as taken

from . import tiny

EXACT = HardwareSettings()


def kernels(tree):
    return {name: np.asarray(weights["kernel"]) for name, weights in tree.items()}


def read(seed=0, step=0, **settings):
    return weights_as_read(tiny.params(), HardwareSettings(**settings), seed, step)


def same(ours, theirs):
    return all(np.array_equal(a, b) for a, b in zip(ours.values(), theirs.values(), strict=True))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_quantised_weights_are_the_nearest_of_few_evenly_spaced_values(bits):
    kernel = jax.random.normal(jax.random.key(0), (40, 30))
    found = np.asarray(quantised(kernel, bits))
    unit = np.abs(kernel).max() / (2 ** (bits - 1) - 1)
    values = np.unique(np.round(found / unit))
    assert len(values) <= 2**bits - 1
    assert 0 in values
    np.testing.assert_allclose(found / unit, np.round(found / unit), atol=1e-5)
    assert np.abs(found - kernel).max() <= unit / 2 * (1 + 1e-5)
    assert np.abs(found).max() == pytest.approx(np.abs(kernel).max())


def test_many_bits_are_no_quantisation():
    before, after = kernels(tiny.params()), kernels(read(weight_bits=24))
    for name, kernel in before.items():
        np.testing.assert_allclose(after[name], kernel, rtol=0, atol=1e-6)


def test_quantising_keeps_partners_symmetric_and_zeros_zero():
    kernel = jax.random.normal(jax.random.key(0), (5, 4))
    assert np.array_equal(quantised(kernel.T, 3), quantised(kernel, 3).T)
    assert np.array_equal(quantised(jnp.zeros((2, 2)), 2), np.zeros((2, 2)))


def test_quantising_twice_is_quantising_once():
    once = quantised(jax.random.normal(jax.random.key(0), (5, 4)), 4)
    np.testing.assert_allclose(quantised(once, 4), once, rtol=1e-6)


def test_mismatch_is_of_the_devices_and_read_noise_of_the_read():
    assert same(kernels(read(mismatch_std=0.1)), kernels(read(mismatch_std=0.1, step=7)))
    assert not same(kernels(read(mismatch_std=0.1)), kernels(read(mismatch_std=0.1, seed=1)))
    assert not same(kernels(read(read_noise_std=0.1)), kernels(read(read_noise_std=0.1, step=7)))
    assert same(kernels(read(read_noise_std=0.1, step=7)), kernels(read(read_noise_std=0.1, step=7)))


@pytest.mark.parametrize("key", ["mismatch_std", "read_noise_std"])
def test_factors_have_mean_one_and_the_deviation_that_is_set(key):
    ones = {"in-l1": {"kernel": jnp.ones((300, 300)), "bias": jnp.ones(300)}}
    found = weights_as_read(ones, HardwareSettings(**{key: 0.1}), 0, 0)["in-l1"]
    assert np.mean(found["kernel"]) == pytest.approx(1, abs=2e-3)
    assert np.std(found["kernel"]) == pytest.approx(0.1, rel=0.02)
    assert np.array_equal(found["bias"], np.ones(300))


def test_a_device_is_the_same_in_every_precision_and_beside_any_others():
    params, settings = tiny.params(), HardwareSettings(mismatch_std=0.1)
    single = weights_as_read(params, settings, 3, 0)
    alone = weights_as_read({"l1-out": params["l1-out"]}, settings, 3, 0)
    assert np.array_equal(alone["l1-out"]["kernel"], single["l1-out"]["kernel"])
    with jax.enable_x64(True):
        double = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), params)
        double = weights_as_read(double, settings, 3, 0)
    np.testing.assert_allclose(double["l1-out"]["kernel"], single["l1-out"]["kernel"], rtol=1e-6)


def test_stochastic_updates_are_multiples_and_right_on_average():
    updates = {"in-l1": {"kernel": jnp.full((300, 300), -0.0123), "bias": jnp.full(300, 0.003)}}
    found = taken(updates, HardwareSettings(update_step=0.01), 0, 0)["in-l1"]
    assert set(np.unique(np.round(np.asarray(found["kernel"]) / 0.01))) == {-2, -1}
    assert np.mean(found["kernel"]) == pytest.approx(-0.0123, rel=0.01)
    assert np.array_equal(found["bias"], updates["in-l1"]["bias"])


def test_every_step_rounds_by_draws_of_its_own():
    """Else a weight would always be rounded to the same side, and drift."""
    updates, settings = {"in-l1": {"kernel": jnp.full((4, 4), 0.005)}}, HardwareSettings(update_step=0.01)
    found = np.array([taken(updates, settings, 0, step)["in-l1"]["kernel"] for step in (*range(100), 0)])
    np.testing.assert_array_equal(found[0], found[-1])
    assert np.all(np.abs(found[:-1].mean(axis=0) - 0.005) < 4 * 0.0005)


def test_nearest_updates_lose_what_is_small():
    updates = {"in-l1": {"kernel": jnp.asarray([0.004, 0.006, -0.016])}}
    settings = HardwareSettings(update_step=0.01, update_rounding="nearest")
    np.testing.assert_allclose(taken(updates, settings, 0, 0)["in-l1"]["kernel"], [0, 0.01, -0.02], rtol=1e-6)


def test_what_does_not_change_takes_no_step():
    updates = {"in-l1": {"kernel": jnp.zeros((50, 50))}}
    assert not np.any(taken(updates, HardwareSettings(update_step=1.0), 0, 0)["in-l1"]["kernel"])


def after_steps(method="hep", steps=3, **hardware):
    settings = tiny.learning(method)._replace(hardware=replace(EXACT, **hardware))
    step, state = tiny.make_step(settings), tiny.start()
    for _ in range(steps):
        state, _ = step(state, *tiny.batch(4))
    return state.params


def test_training_with_many_bits_is_training():
    exact, many = kernels(after_steps()), kernels(after_steps(weight_bits=24))
    for name, kernel in exact.items():
        np.testing.assert_allclose(many[name], kernel, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", ["asymep", "bptt", "online_hep"])
def test_the_gradient_is_that_of_the_weights_as_read_and_moves_the_float_copy(method):
    """One step of SGD without momentum: the copy moves by what plain training moves the read weights by."""
    hardware = HardwareSettings(weight_bits=3, mismatch_std=0.1, read_noise_std=0.1)
    as_read = weights_as_read(tiny.params(), hardware, 0, 0)
    plain_sgd = replace(tiny.SGD, momentum=0.0)
    optimizer = build_optimizer(plain_sgd, 10)

    def moved(settings, params):
        before = jax.tree.map(np.array, params)
        step = tiny.make_step(settings, plain_sgd)
        state, _ = step(init_state(params, optimizer), *tiny.batch(4))
        return jax.tree.map(lambda new, old: np.asarray(new) - old, state.params, before)

    plain = moved(tiny.learning(method), as_read)
    through = moved(tiny.learning(method)._replace(hardware=hardware), tiny.params())
    for ours, theirs in zip(jax.tree.leaves(through), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


def test_weights_stay_on_their_lattice():
    unit = 2.0**-6
    start, end = kernels(tiny.params()), kernels(after_steps(update_step=unit))
    moved = np.concatenate([((end[name] - start[name]) / unit).ravel() for name in start])
    np.testing.assert_allclose(moved, np.round(moved), atol=1e-4)
    assert np.any(moved)
