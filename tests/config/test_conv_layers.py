"""The rules of convolutional layers."""

import pytest

from hepcli.config import load_config
from hepcli.errors import ConfigError
from hepcli.settings import ConvLayer

CONV = "network.layers.conv1"


def message(*overrides, preset="cifar10-small"):
    with pytest.raises(ConfigError) as caught:
        load_config(preset, overrides)
    return caught.value.what


def test_a_layer_is_dense_unless_it_says_otherwise():
    layers = load_config("cifar10-small", ["network.layers.out={units=7}"]).config.network.layers
    assert isinstance(layers["conv1"], ConvLayer)
    assert (layers["out"].kind, layers["out"].units) == ("dense", 7)


def test_an_unknown_kind():
    text = message("network.layers.conv1={kind='convv', channels=3}")
    assert text.startswith(f'{CONV}.kind = "convv": must be one of')
    assert "did you mean conv?" in text


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("channels", 0, "must be at least 1"),
        ("kernel_size", 0, "must be at least 1"),
        ("pool_size", 0, "must be at least 1"),
        ("pool_stride", 0, "must be at least 1"),
        ("pool_temperature", 1e-7, "must be at least 1e-06"),
    ],
)
def test_lowest_values(key, value, rule):
    assert message(f"{CONV}.{key}={value}").endswith(rule)


@pytest.mark.parametrize(
    ("key", "given", "meant"), [("padding", "sane", "same"), ("weights", "locl", "local")]
)
def test_choices(key, given, meant):
    assert message(f"{CONV}.{key}={given}").endswith(f"did you mean {meant}?")


def test_a_key_of_the_other_kind():
    assert "units" in message(f"{CONV}.units=3")


def test_no_image_behind_a_dense_layer():
    text = message("network.layers.conv1={units=5}")
    assert "conv1 is a dense layer, so the convolution into conv2 has no image as input" in text


def test_a_conv_layer_needs_an_image_below():
    text = message('network.connections=["in-out", "out-conv1", "conv1-out", "conv1-conv2", "conv2-conv1"]')
    assert f"{CONV}: a conv layer needs a convolution from in or from a layer listed before it" in text


def test_a_conv_layer_is_not_connected_to_itself():
    connections = '["in-conv1", "conv1-conv2", "conv2-conv1", "conv2-out", "out-conv2", "conv1-conv1"]'
    assert "cannot be connected to itself" in message(f"network.connections={connections}")


@pytest.mark.parametrize("key", ["mean", "std"])
def test_normalisation_needs_a_number(key):
    assert f"data.{key} = []: must contain one number per channel" in message(f"data.{key}=[]")


def test_feedback_of_another_kind_than_its_forward_partner():
    """A convolution onto a dense layer, since the feedback's own entry takes the place of the forward one."""
    layers = "{l1={kind='conv', channels=3}, l2={kind='dense', units=5}, out={kind='dense', units=4}}"
    connections = '["in-l1", "l1-l2", "l2-l1", "l2-out", "out-l2"]'
    kernels = "{l1-l2={kind='dense'}, l2-l1={kind='conv'}}"
    text = message(
        f"network.layers={layers}", f"network.connections={connections}", f"network.kernels={kernels}"
    )
    assert "l2-l1" in text


def test_local_kernels_of_other_places_are_no_partners():
    layer = "{kind='conv', channels=4, weights='local', kernel_size=3, stride=1, pool_size=2, pool_stride=2}"
    overrides = [
        f"network.layers.conv2={layer}",
        "network.kernels={conv2-conv1={stride=2, pool_size=1, pool_stride=1, weights='local'}}",
    ]
    network = load_config("cifar10-small", overrides).config.network
    assert network.partner("conv2-conv1") is None
    assert network.partner("out-conv2") == "conv2-out"
