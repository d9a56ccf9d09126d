"""Tied kernels, activations, kernels of their own and orders of update: what is refused, and how."""

import jax
import pytest

from hepcli.config import load_config
from hepcli.errors import ConfigError
from hepcli.networks import build_network
from hepcli.settings import ConvLayer, DenseLayer

SMALL = "cifar10-hopfield-resnet-small"
IMAGE, NUM_CLASSES = (32, 32, 3), 10


def message(*overrides, preset="quickstart"):
    with pytest.raises(ConfigError) as caught:
        load_config(preset, overrides)
    return caught.value.what


def misfits(*overrides, preset=SMALL):
    return [str(fault) for fault in load_config(preset, overrides).config.network.misfits(IMAGE, NUM_CLASSES)]


def test_hopfield_resnet13_is_the_published_network():
    """Nine states, thirteen kernels; parameters counted edge by edge, and a bias for each state."""
    settings = load_config("cifar10-hopfield-resnet13").config.network
    assert settings.misfits(IMAGE, NUM_CLASSES) == []
    network = build_network(settings, IMAGE, NUM_CLASSES)
    sizes = [(32, 128), (16, 128), (16, 256), (8, 256), (8, 512), (4, 512), (4, 512), (2, 512)]
    assert [shape for _, shape in network.shapes] == [*((n, n, c) for n, c in sizes), (10,)]
    edges = {
        "in-h1": (3, 3, 128), "h1-h2": (3, 128, 128), "in-h2": (1, 3, 128), "h2-h3": (3, 128, 256),
        "h2-h4": (1, 128, 256), "h3-h4": (3, 256, 256), "h4-h5": (3, 256, 512), "h4-h6": (1, 256, 512),
        "h5-h6": (3, 512, 512), "h6-h7": (3, 512, 512), "h6-h8": (1, 512, 512), "h7-h8": (3, 512, 512),
        "h8-out": (1, 2 * 2 * 512, 10),
    }  # fmt: skip
    with_kernel = [own for own in network.connections if not own.is_tied]
    assert {own.name for own in with_kernel} == set(edges)
    assert len(network.pairs) == 11
    assert network.untied_pairs == ()
    kernels = sum(size**2 * pre * post for size, pre, post in edges.values())
    biases = sum(channels for _, channels in sizes) + 10
    params = jax.eval_shape(network.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == kernels + biases == 9_742_858
    assert dict(network.activations) == dict.fromkeys(network.layers, "relu6") | {"out": "linear"}


def test_a_tied_pair_has_one_kernel():
    settings = load_config("quickstart", ["network.tied=true"]).config.network
    network = build_network(settings, (28, 28, 1), NUM_CLASSES)
    assert [own.name for own in network.connections if own.is_tied] == ["l2-l1", "out-l2"]
    one = load_config("quickstart", ['network.tied=["out-l2"]']).config.network
    assert build_network(one, (28, 28, 1), NUM_CLASSES).untied_pairs == (("l2-l1", "l1-l2"),)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["network.tied=maybe"], 'must be true, false or a list, written like ["l2-l1"]'),
        (['network.tied=["l2-l3"]'], "the network has no connection l2-l3; did you mean"),
        (['network.tied=["l1-l2"]'], "l1-l2 is not feedback"),
        (
            ['network.connections=["in-l1","l1-l2","l2-out","out-l1"]', "network.tied=true"],
            "out-l1 has no forward partner; set network.tied to a list of connections without it",
        ),
        (
            ['network.connections=["in-l1","l1-l2","l2-out"]', "network.tied=true"],
            "there is no feedback connection to a lower layer",
        ),
        (["network.tied=true", "network.initial_angle_deg=30.0"], "must be 0 if all feedback is tied"),
        (
            ["network.tied=true", "optimizer.feedback_learning=fixed"],
            'must be "gradient" if all feedback is tied',
        ),
        (
            ["network.tied=true", "optimizer.learning_rate_multipliers.l2-l1=2.0"],
            "l2-l1 is tied to l1-l2; set that one instead",
        ),
    ],
)
def test_what_cannot_be_tied(overrides, words):
    assert words in message(*overrides)


def test_tied_pairs_of_unequal_shape():
    text = message("network.kernels.h2-h1={kernel_size=5}", preset=SMALL)
    assert "h2-h1 and h1-h2 differ in shape: leave out network.kernels.h2-h1" in text


def test_an_untied_pair_may_differ_in_shape_and_is_none_then():
    overrides = ["network.tied=false", "network.kernels.h2-h1={kernel_size=5, stride=2}"]
    settings = load_config(SMALL, overrides).config.network
    assert settings.partner("h2-h1") is None
    assert settings.partner("h3-h2") == "h2-h3"
    assert settings.misfits(IMAGE, NUM_CLASSES) == []


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (["gradient.num_points=4"], "gradient.num_points = 4: relu6 is not holomorphic"),
        (["gradient.method=asymep", "gradient.num_points=3"], "gradient.num_points = 3: relu6 is not"),
        (["gradient.method=online_hep"], 'gradient.method = "online_hep": relu6 is not holomorphic'),
    ],
)
def test_complex_nudges_need_holomorphic_activations(method, words):
    text = message("network.layers.l2.activation=relu6", *method)
    assert words in text
    assert 'use gradient.method = "hep" with gradient.num_points = 1 or 2, or "hep_exact"' in text


@pytest.mark.parametrize("method", ["hep", "asymep", "hep_exact", "rbp", "bptt", "dyadic_ep"])
def test_real_nudges_take_any_activation(method):
    overrides = ["network.activation=clipped_relu(0.5)", f"gradient.method={method}"]
    assert load_config("quickstart", overrides).config.network.activation == "clipped_relu(0.5)"


@pytest.mark.parametrize("name", ["clipped_relu", "clipped_relu(0)", "clipped_relu(x)", "clipped_relu(inf)"])
def test_a_clipped_relu_states_its_ceiling(name):
    assert "needs a ceiling above 0, such as clipped_relu(2.5)" in message(f"network.activation={name}")


def test_an_unknown_activation_of_a_layer():
    assert "did you mean relu6?" in message("network.layers.l1.activation=relu")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("network.kernels.in-h3={gain=2.0}", "network.kernels.in-h3: the network has no connection in-h3"),
        ("network.kernels.in-h2.kernel_sise=3", "there is no such key; did you mean network.kernels.in-h2"),
        ("network.kernels.in-h2.stride=0", "network.kernels.in-h2.stride = 0: must be at least 1"),
        ("network.kernels.h2-h1={bias=false}", "feedback connections have no bias"),
        ('network.kernels.h4-out={kind="conv"}', "out is a dense layer and cannot receive a convolution"),
        ("network.kernels.h4-out={stride=2}", "applies only to convolutions, and this connection is dense"),
    ],
)
def test_kernels_that_are_refused(override, words):
    assert words in message(override, preset=SMALL)


def test_strides_that_do_not_fit():
    (text,) = misfits("network.kernels.in-h2.stride=3")
    assert "it turns the 32 × 32 × 3 image of in into 11 × 11 × 32, but h2 is 8 × 8 × 32" in text
    assert "change stride, padding and pool_stride in network.kernels.in-h2" in text


def test_a_connection_does_what_its_kernel_says_and_else_what_its_layer_says():
    overrides = ['network.kernels.in-h2={kind="dense", gain=0.5}']
    network = build_network(load_config(SMALL, overrides).config.network, IMAGE, NUM_CLASSES)
    own = {connection.name: connection for connection in network.connections}
    assert own["in-h2"].layer == DenseLayer(units=8 * 8 * 32, gain=0.5)
    skip = own["h2-h4"].layer
    assert isinstance(skip, ConvLayer)
    assert (skip.kernel_size, skip.stride, skip.channels) == (1, 2, 64)
    assert own["h4-h2"].layer == skip
    assert not own["h2-h4"].has_bias
    assert own["h3-h4"].has_bias


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("even_od", "must be one of cyclic, even_odd, sequential, or groups of layers such as"),
        ("[]", "or groups of layers such as"),
        ('[["l1"], ["l2", "oot"]]', "there is no layer oot; did you mean out?"),
        ('[["l1"], ["l2", "out", "l1"]]', "l1 is listed 2 times"),
        ('[["l1"], ["out"]]', "l2 is in none of the groups"),
    ],
)
def test_orders_that_are_refused(order, words):
    assert words in message(f"relaxation.order={order}")


def of_a_run(resolved, key, value):
    """The relaxation of a run of an older version, which can be opened and resumed with other settings."""
    tables = resolved.config.model_dump(mode="json")
    tables["relaxation"][key] = value
    return load_config(tables, ["run.seed=3"], is_new=False).config.relaxation


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("gradient.num_points=1",), ", or gradient.num_points to 2 or more"),
        (
            ("gradient.num_points=1", "gradient.beta_sign=random"),
            ", or gradient.num_points to 2 or more and gradient.beta_sign to positive",
        ),
        (("gradient.num_points=1", "gradient.method=asymep"), "asymep subtracts the state of the free phase"),
        (
            ("gradient.method=coupled_learning", "network.loss=squared_error", "network.readout=false"),
            "divides its rounding by |β|; set it to float32",
        ),
        (
            ("gradient.method=contrastive_hebbian", "network.loss=squared_error", "network.readout=false"),
            "contrastive_hebbian subtracts the state of the free phase here and keeps its rounding",
        ),
    ],
)
def test_no_difference_from_a_state_in_half_precision(overrides, words):
    half = "relaxation.free_precision=bfloat16"
    assert words in message(half, *overrides)
    assert of_a_run(load_config(None, overrides), "free_precision", "bfloat16").free_precision == "bfloat16"
    with pytest.raises(ConfigError, match="free_precision"):  # nor may a run be opened so
        load_config(None, [half, *overrides], is_new=False)
    assert load_config(None, overrides)
    assert load_config(None, [half])


def test_settings_that_nothing_reads():
    angle = "network.initial_angle_deg=90"
    assert "no two layers of this network are connected" in message(angle, preset="fashion-mnist-loop")
    assert load_config("fashion-mnist", [angle])
    dyadic, nudged = "gradient.method=dyadic_ep", "relaxation.nudged_solver=synchronous"
    assert "dyadic_ep has no nudged phase of its own; set relaxation.solver" in message(dyadic, nudged)
    assert load_config(None, [dyadic, nudged, "relaxation.solver=synchronous"])
    assert "set relaxation.tolerance" in message(dyadic, "relaxation.nudged_tolerance=0.5")
    upwards = 'network.connections=["in-l1", "l1-l2", "l2-out"]'
    assert "set it to 1.0" in message(upwards, "network.feedback_strength=0.5")
    assert "set it to gradient" in message(upwards, "optimizer.feedback_learning=fixed")
    assert load_config(None, [upwards])
    tied, weight = "network.tied=true", "homeostasis.weight=1.0"
    assert "nothing of this network can be misaligned; set it to 0" in message(tied, weight)
    assert load_config(None, [tied, weight, "network.feedback_strength=0.5"])
    assert load_config(None, ['network.tied=["l2-l1"]', weight])
    rates = "optimizer.weight_decay_multipliers={l1-l2=0.0, l2-l1=0.0, l2-out=0.0, out-l2=0.0}"
    aligning = ["optimizer.feedback_learning=kolen_pollack", "optimizer.weight_decay=0.1"]
    assert "needs optimizer.weight_decay_multipliers above 0 for feedback" in message(*aligning, rates)
    assert load_config(None, aligning)


@pytest.mark.parametrize("solver", ["alternating", "anderson"])
def test_cycles_without_an_order(solver):
    """A skip closes a cycle of three beside those of two."""
    text = message("relaxation.order=cyclic", f"relaxation.solver={solver}", preset=SMALL)
    assert (
        f"the layers of this network have no cyclic order, so {solver} would update all of them at once"
        in text
    )
    assert load_config(SMALL, ["relaxation.order=cyclic", "relaxation.solver=synchronous"])
    nudged = ["relaxation.solver=synchronous", f"relaxation.nudged_solver={solver}"]
    text = message("relaxation.order=cyclic", *nudged, preset=SMALL)
    assert text.endswith('or relaxation.nudged_solver = "synchronous"')
    assert load_config(
        SMALL, ["relaxation.order=cyclic", "network.tied=false", "gradient.method=feedforward"]
    )
    own = load_config(SMALL, [f"relaxation.solver={solver}"])
    assert of_a_run(own, "order", "cyclic").order == "cyclic"
    assert load_config(SMALL, ['relaxation.order=[["h1", "h3", "out"], ["h2"], ["h4"]]'])
