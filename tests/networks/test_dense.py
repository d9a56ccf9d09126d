"""Dense networks: parameters, initialisation, feedback and its angle."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hepcli.networks import rotate_feedback, weight_angle_deg
from tests.dense import dense_network

MLP = ("in-l1", "l1-l2", "l2-l1", "l2-out", "out-l2")
LOOP = ("in-l1", "l1-l2", "l2-out", "out-l1")


def network(names=MLP, units=(300, 200, 10), **settings) -> dense_network:
    layers = tuple(zip(("l1", "l2", "out"), units, strict=True))
    return dense_network(layers, tuple(tuple(name.split("-")) for name in names), 400, 10, **settings)


@functools.cache
def initial():
    """Parameters of the mlp: drawing them compiles for seconds."""
    return network().init(jax.random.key(0))


def test_parameter_names_and_shapes():
    params = initial()
    shapes = {
        f"{name}/{leaf}": array.shape for name, weights in params.items() for leaf, array in weights.items()
    }
    assert shapes == {
        "in-l1/kernel": (400, 300),
        "in-l1/bias": (300,),
        "l1-l2/kernel": (300, 200),
        "l1-l2/bias": (200,),
        "l2-l1/kernel": (200, 300),
        "l2-out/kernel": (200, 10),
        "l2-out/bias": (10,),
        "out-l2/kernel": (10, 200),
        "readout/kernel": (10, 10),
        "readout/bias": (10,),
    }
    without = dense_network((("out", 2),), (("in", "out"),), 3, 2, readout=False)
    assert list(without.init(jax.random.key(0))) == ["in-out"]


def test_lecun_normal_kernels_and_zero_biases():
    params = initial()
    for name, weights in params.items():
        kernel = np.asarray(weights["kernel"])
        fan_in, samples = kernel.shape[0], kernel.size
        assert kernel.std() == pytest.approx(fan_in**-0.5, rel=4 / np.sqrt(2 * samples)), name
        assert abs(kernel.mean()) < 4 * fan_in**-0.5 / np.sqrt(samples), name
        assert not np.any(weights.get("bias", 0)), name


def test_init_is_a_function_of_the_key():
    small = dense_network((("out", 3),), (("in", "out"),), 4, 2)
    first, again, other = (small.init(jax.random.key(seed)) for seed in (0, 0, 1))
    for name, weights in first.items():
        np.testing.assert_array_equal(weights["kernel"], again[name]["kernel"])
        assert not np.array_equal(weights["kernel"], other[name]["kernel"])


@pytest.mark.parametrize(
    ("names", "expected"),
    [(MLP, (("l2-l1", "l1-l2"), ("out-l2", "l2-out"))), (LOOP, ()), ((*LOOP, "l1-l1"), ())],
)
def test_pairs(names, expected):
    assert network(names).pairs == expected


def test_feedback_at_0_degrees_is_the_transpose():
    dense = network()
    before = initial()
    after = rotate_feedback(before, dense.pairs, 0.0)
    for feedback, forward in dense.pairs:
        np.testing.assert_allclose(after[feedback]["kernel"], before[forward]["kernel"].T, atol=1e-7)
        np.testing.assert_array_equal(after[forward]["kernel"], before[forward]["kernel"])
    angles = weight_angle_deg(after, dense.pairs)
    assert sorted(angles) == ["l1-l2", "l2-out", "total"]
    assert max(float(angle) for angle in angles.values()) < 0.05


def test_feedback_at_90_degrees_is_unchanged():
    dense = network()
    before = initial()
    after = rotate_feedback(before, dense.pairs, 90.0)
    for leaf, expected in zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True):
        np.testing.assert_allclose(leaf, expected, atol=1e-7)
    assert float(weight_angle_deg(after, dense.pairs)["total"]) == pytest.approx(90, abs=1.5)


def test_without_pairs_nothing_is_rotated_and_no_angle_defined():
    dense = network(LOOP)
    before = initial()
    after = rotate_feedback(before, dense.pairs, 30.0)
    jax.tree.map(np.testing.assert_array_equal, after, before)
    assert weight_angle_deg(after, dense.pairs) == {}


def test_known_angles():
    """Forward along one axis, feedback at 60° and opposite; the total weighs the pairs by their norms."""
    params = {
        "a-b": {"kernel": jnp.asarray([[1.0], [0.0]])},
        "b-a": {"kernel": jnp.asarray([[0.5, np.sqrt(0.75)]])},
        "b-c": {"kernel": jnp.asarray([[2.0]])},
        "c-b": {"kernel": jnp.asarray([[-2.0]])},
    }
    angles = weight_angle_deg(params, (("b-a", "a-b"), ("c-b", "b-c")))
    assert float(angles["a-b"]) == pytest.approx(60, abs=1e-4)
    assert float(angles["b-c"]) == pytest.approx(180, abs=1e-2)
    assert float(angles["total"]) == pytest.approx(np.degrees(np.arccos((0.5 - 4) / 5)), abs=1e-3)


def test_a_tied_pair_counts_in_the_total():
    """Forward along one axis, feedback at 60°, both of norm 1; and a shared kernel of norm 2 at 0°."""
    params = {
        "a-b": {"kernel": jnp.asarray([[1.0], [0.0]])},
        "b-a": {"kernel": jnp.asarray([[0.5, np.sqrt(0.75)]])},
        "b-c": {"kernel": jnp.asarray([[2.0]])},
    }
    angles = weight_angle_deg(params, (("b-a", "a-b"),), tied=("b-c",))
    assert float(angles["b-c"]) == 0
    assert float(angles["total"]) == pytest.approx(np.degrees(np.arccos((0.5 + 4) / 5)), abs=1e-3)


@pytest.mark.parametrize("angle", [0.0, 1e-4, 1e-3, 0.1])
def test_small_angles_are_no_rounding(angle):
    kernel = np.random.default_rng(0).standard_normal((30, 20))
    across = np.random.default_rng(1).standard_normal((30, 20))
    across -= np.sum(across * kernel) / np.sum(kernel**2) * kernel
    across *= np.linalg.norm(kernel) / np.linalg.norm(across)
    back = np.cos(np.deg2rad(angle)) * kernel + np.sin(np.deg2rad(angle)) * across
    params = {"a-b": {"kernel": jnp.asarray(kernel)}, "b-a": {"kernel": jnp.asarray(back.T)}}
    assert float(weight_angle_deg(params, (("b-a", "a-b"),))["total"]) == pytest.approx(angle, rel=0.02)


def test_images_are_flattened_and_the_input_enters_as_it_is():
    dense = dense_network((("l1", 3), ("out", 2)), (("in", "l1"), ("l1", "out"), ("out", "l1")), 4, 2)
    params = jax.tree.map(lambda w: w + 0.1, dense.init(jax.random.key(7)))
    images = jnp.arange(8.0).reshape(2, 2, 2, 1)
    drive = dense.input_drive(params, images)
    expected = images.reshape(2, 4) @ params["in-l1"]["kernel"] + params["in-l1"]["bias"]
    np.testing.assert_allclose(drive["l1"], expected, rtol=1e-6)
    np.testing.assert_allclose(drive["out"], params["l1-out"]["bias"])
    assert {name: u.shape for name, u in dense.zero_state(images).items()} == {"l1": (2, 3), "out": (2, 2)}


def test_feedback_strength_multiplies_what_comes_from_above():
    """And nothing else: weaker feedback is the same network with smaller top-down kernels."""
    names = ("in-l1", "l1-l1", "l1-l2", "l2-l1", "l2-out", "out-l2", "out-l1")
    whole, weak = network(names, (5, 4, 3)), network(names, (5, 4, 3), feedback_strength=0.25)
    params = whole.init(jax.random.key(0))
    smaller = {
        name: {"kernel": 0.25 * weights["kernel"]} if name in ("l2-l1", "out-l2", "out-l1") else weights
        for name, weights in params.items()
    }
    rng = np.random.default_rng(0)
    activity = {name: jnp.asarray(rng.random((2, *shape))) for name, shape in whole.unit_shapes.items()}
    for layer in whole.layers:
        expected = whole.recurrent_drive(smaller, layer, activity)
        np.testing.assert_allclose(weak.recurrent_drive(params, layer, activity), expected, rtol=1e-6)
        assert np.any(whole.recurrent_drive(params, layer, activity) != expected) == (layer != "out")
