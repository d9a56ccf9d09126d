"""The graph of layers: which ones are refused, and which way a connection leads."""

import json

import pytest
from pydantic import TypeAdapter

from hepcli.config import load_config
from hepcli.errors import ConfigError
from hepcli.settings import NetworkSettings


def message(layers, connections):
    """Return what is said about a graph."""
    table = ", ".join(f"{json.dumps(name)} = {{units = 3}}" for name in layers)
    with pytest.raises(ConfigError) as caught:
        load_config("quickstart", [f"network.layers={{{table}}}", f"network.connections={connections}"])
    return caught.value.what


def network(layers, *connections):
    """Make a valid network."""
    table = {
        "activation": "sigmoid",
        "connections": connections,
        "layers": {name: {"units": 3} for name in layers},
    }
    return TypeAdapter(NetworkSettings).validate_json(json.dumps(table))


@pytest.mark.parametrize("connection", ["l1", "l1-", "-out", "l1-l2-out", "l1 - out", "l1>out", "L1-out", ""])
def test_malformed_connection(connection):
    text = message(["l1", "out"], ["in-l1", "l1-out", connection])
    assert text == f'network.connections = "{connection}": must be "pre-post", such as "in-l1"'


def test_missing_layer():
    text = message(["hidden", "out"], ["in-hidden", "hidden-out", "hiden-out"])
    assert text == ('network.connections = "hiden-out": there is no layer hiden; did you mean hidden?')
    text = message(["hidden", "out"], ["in-hidden", "hidden-out", "zz-out"])
    assert text == 'network.connections = "zz-out": there is no layer zz; layers are hidden, out'


def test_readout_is_no_layer():
    assert "there is no layer readout" in message(["out"], ["in-out", "out-readout"])


def test_connection_into_the_input():
    text = message(["out"], ["in-out", "out-in"])
    assert text == 'network.connections = "out-in": the input cannot receive connections'
    assert "the input cannot receive connections" in message(["out"], ["in-out", "in-in"])


def test_duplicate():
    assert message(["out"], ["in-out", "in-out"]) == 'network.connections = "in-out": is listed 2 times'


def test_several_bad_connections_at_once():
    text = message(["out"], ["in-out", "in-out", "out-in", "x"])
    assert text.startswith("3 settings are not allowed:")


def test_no_out_layer():
    text = message(["l1", "l2"], ["in-l1", "l1-l2"])
    assert text == "network.layers: one layer must be named out; found l1, l2"


def test_layers_after_the_output():
    """They would feed back to it only, and the network would stay at chance level."""
    with pytest.raises(ConfigError, match=r"network\.layers\.l3: comes after out"):
        load_config("quickstart", ("network.layers.l3={units=8}",))


def test_no_layers():
    assert message([], ["in-out"]) == "network.layers = {}: must contain at least the layer out"


@pytest.mark.parametrize("name", ["L1", "1l", "_l", "l-1", "l 1", "é", ""])
def test_layer_names(name):
    text = message([name, "out"], ["in-out"])
    rule = "a layer name consists of lower-case letters, digits and _, and starts with a letter"
    assert text == f"network.layers.{name}: {rule}"


@pytest.mark.parametrize("name", ["in", "readout"])
def test_taken_layer_names(name):
    assert (
        message([name, "out"], ["in-out"])
        == f"network.layers.{name}: {name} is reserved; choose another name"
    )


def test_layer_nothing_reaches():
    text = message(["l1", "l2", "out"], ["in-l1", "l1-out", "l2-out"])
    assert text == "network.layers.l2: no path of connections leads from in to l2"


def test_island_that_only_reaches_itself():
    text = message(["l1", "l2", "out"], ["in-out", "l1-l2", "l2-l1"])
    assert text.splitlines()[0] == "4 settings are not allowed:"


def test_layer_that_leads_nowhere():
    text = message(["l1", "l2", "out"], ["in-l1", "l1-out", "l1-l2"])
    assert text == "network.layers.l2: no path of connections leads from l2 to out"


def test_no_connections():
    assert message(["out"], []) == "network.layers.out: no path of connections leads from in to out"


def test_connections_of_another_type():
    with pytest.raises(ConfigError, match=r"network\.connections\.1 = 3: must be a string"):
        load_config("quickstart", ['network.connections=["in-l1", 3]'])
    with pytest.raises(ConfigError, match="must be a list"):
        load_config("quickstart", ["network.connections=in-l1"])


def test_unknown_kind():
    with pytest.raises(ConfigError, match=r'network.layers.l1.kind = "cnv": must be'):
        load_config("quickstart", ["network.layers.l1.kind=cnv"])


def test_pairs_and_partners():
    net = network(["l1", "l2", "out"], "in-l1", "l1-l2", "l2-l1", "l2-out", "out-l1")
    assert net.connection_pairs == [("in", "l1"), ("l1", "l2"), ("l2", "l1"), ("l2", "out"), ("out", "l1")]
    assert [net.is_feedback(name) for name in net.connections] == [False, False, True, False, True]
    assert [net.partner(name) for name in net.connections] == [None, None, "l1-l2", None, None]


def test_order_of_layers_decides_what_is_forward():
    net = network(["l2", "l1", "out"], "in-l1", "l1-l2", "l2-l1", "l2-out")
    assert net.is_feedback("l1-l2")
    assert net.partner("l1-l2") == "l2-l1"
    assert list(net.layers) == ["l2", "l1", "out"]


def test_loop_has_no_pair():
    net = network(["l1", "l2", "out"], "in-l1", "l1-l2", "l2-out", "out-l1")
    assert not any(map(net.partner, net.connections))


def test_connection_to_itself_is_feedback_without_partner():
    net = network(["out"], "in-out", "out-out")
    assert net.is_feedback("out-out")
    assert net.partner("out-out") is None
