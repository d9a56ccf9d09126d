"""config.toml: what is written is read back, and says where each value came from."""

import json
import tomllib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepcli.config import (
    Config,
    ResolvedConfig,
    config_hash,
    differences,
    dump_config,
    flatten,
    list_presets,
    load_config,
    parse_config,
    read_config,
)
from hepcli.errors import ConfigError

PRESETS = [info.name for info in list_presets()]
DUMPED = dump_config(load_config(None, ["run.epochs=20"]))

counts = st.integers(1, 10**9)
counts_or_none = st.integers(0, 10**9)
not_negative = st.floats(0.0, allow_nan=False, allow_infinity=False)
positive = st.floats(0.0, exclude_min=True, allow_nan=False, allow_infinity=False)
layer_names = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True).filter(
    lambda name: name not in ("in", "out", "readout")
)


@st.composite
def networks(draw):
    """A chain from the input to out, with some of its reversed connections."""
    names = [*draw(st.lists(layer_names, max_size=4, unique=True)), "out"]
    chain = [f"{pre}-{post}" for pre, post in zip(["in", *names], names, strict=False)]
    back = [f"{post}-{pre}" for pre, post in pairwise(names)]
    kept = draw(st.lists(st.sampled_from(back), unique=True)) if back else []
    return {
        "activation": draw(st.sampled_from(["sigmoid", "dsilu"])),
        "loss": draw(st.sampled_from(["cross_entropy", "squared_error"])),
        "initial_angle_deg": draw(st.floats(0.0, 90.0)),
        "layers": {name: {"kind": "dense", "units": draw(counts)} for name in names},
        "connections": [*chain, *kept],
    }


@st.composite
def configs(draw):
    """A valid configuration."""
    network = draw(networks())
    factors = st.dictionaries(st.sampled_from([*network["connections"], "readout"]), not_negative)
    tables = {
        "run": {"seed": draw(st.integers(0, 2**32 - 1)), "epochs": draw(counts)},
        "data": {"name": draw(st.sampled_from(["cifar10", "imagenet32"])), "batch_size": draw(counts)},
        "network": network,
        "relaxation": {"free_steps": draw(counts), "tolerance": draw(not_negative)},
        "gradient": {
            "method": draw(st.sampled_from(["hep", "hep_exact", "online_hep", "bptt"])),
            "num_points": draw(st.integers(2, 100)),
            "beta_radius": draw(positive),
        },
        "homeostasis": {"weight": draw(not_negative)},
        "optimizer": {
            "name": draw(st.sampled_from(["sgd", "adamw"])),
            "learning_rate": draw(positive),
            "momentum": draw(st.floats(0.0, 1.0, exclude_max=True)),
            "learning_rate_multipliers": draw(factors),
            "weight_decay_multipliers": draw(factors),
        },
        "checkpoints": {"every_steps": draw(counts_or_none), "keep_best": draw(counts_or_none)},
    }
    return Config.model_validate_json(json.dumps(tables))


@given(config=configs(), source=st.text(max_size=20))
@settings(deadline=None, max_examples=60)
def test_round_trip_of_any_configuration(config, source):
    sources = dict.fromkeys(flatten(config.model_dump(mode="json")), source)
    text = dump_config(ResolvedConfig(config, sources, "x"))
    back = parse_config(text, "run x")
    assert back.config == config
    assert list(back.config.network.layers) == list(config.network.layers)
    assert set(back.sources) == set(sources)
    assert set(back.sources.values()) == {"run x"}
    assert config_hash(back.config) == config_hash(config)
    assert differences(back.config, config) == []


@pytest.mark.parametrize("preset", PRESETS)
def test_round_trip_of_every_preset(preset):
    resolved = load_config(preset)
    assert parse_config(dump_config(resolved), "run x").config == resolved.config


def test_the_header_comes_first():
    resolved = load_config(None)
    run = "# Every value of this run, and where it came from.\n\n[run]\n"
    assert dump_config(resolved).startswith(run)
    assert dump_config(resolved, "# Title\n# More").startswith("# Title\n# More\n\n[run]\n")
    assert dump_config(resolved, "").startswith("[run]\n")


def test_tables_in_order_and_every_value_with_its_source():
    text = dump_config(load_config(None, ["run.epochs=2"], {"run.seed": 3}))
    assert list(tomllib.loads(text)) == [name for name in Config.model_fields if name != "code"]
    lines = text.splitlines()
    assert "epochs = 2 # flag" in lines
    assert "seed = 3 # flag" in lines
    assert 'schedule = "cosine" # preset quickstart' in lines
    assert 'layers.l1.kind = "dense" # preset fashion-mnist' in lines
    assert "weight_decay_multipliers = {} # preset fashion-mnist" in lines
    assert all(" # " in line for line in lines if " = " in line)


@pytest.mark.parametrize("place", ["", "config.toml"], ids=["folder", "file"])
def test_read_config(tmp_path, place):
    resolved = load_config("fashion-mnist")
    (tmp_path / "config.toml").write_text(dump_config(resolved), encoding="utf-8")
    assert read_config(tmp_path / place) == resolved.config


def test_read_config_of_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(ConfigError, match=r"contains no config\.toml"):
        read_config(tmp_path)
    with pytest.raises(ConfigError, match=r"contains no config\.toml"):
        read_config(tmp_path / "none" / "config.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[run\n", "is not valid TOML: line 1"),
        ("", "settings are not allowed"),
        (
            DUMPED.replace("epochs = 20", "epochs = 0"),
            "run.epochs = 0: must be at least 1",
        ),
    ],
    ids=["toml", "empty", "value"],
)
def test_read_config_of_a_damaged_file(tmp_path, text, message):
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path)
    assert str(file) in caught.value.what
    assert message in caught.value.what


def test_differences():
    a = load_config(None).config
    b = load_config(None, ["run.seed=3", "optimizer.learning_rate_multipliers.readout=5"]).config
    assert differences(a, a) == []
    assert differences(a, b) == [
        ("run.seed", 0, 3),
        ("optimizer.learning_rate_multipliers.readout", None, 5.0),
    ]
    assert differences(b, a) == [
        ("run.seed", 3, 0),
        ("optimizer.learning_rate_multipliers.readout", 5.0, None),
    ]


def swapped(first, second):
    """Quickstart with its hidden layers listed in this order."""
    sizes = {"l1": "{units=256}", "l2": "{units=256}", "out": "{units=10}"}
    table = ", ".join(f"{name}={sizes[name]}" for name in (first, second, "out"))
    return load_config(None, [f"network.layers={{{table}}}"]).config


def test_order_of_layers_is_a_difference():
    a, b = swapped("l1", "l2"), swapped("l2", "l1")
    assert differences(a, b) == [("network.layers", ["l1", "l2", "out"], ["l2", "l1", "out"])]
    assert config_hash(a) != config_hash(b)


def test_hash_follows_values_only():
    base = load_config(None).config
    assert len(config_hash(base)) == 12
    assert int(config_hash(base), 16) >= 0
    assert config_hash(base) == config_hash(load_config(None, ["run.seed=0"]).config)
    assert config_hash(base) != config_hash(load_config(None, ["run.seed=1"]).config)
    key = "optimizer.learning_rate_multipliers"
    one = load_config(None, [f"{key}.in-l1=2", f"{key}.readout=3"]).config
    other = load_config(None, [f"{key}.readout=3.0", f"{key}.in-l1=2.0"]).config
    assert config_hash(one) == config_hash(other)


def test_other_layers_differ_by_their_keys_not_by_their_order():
    a, b = (load_config(preset).config for preset in ("fashion-mnist", "cifar10-hopfield-resnet-small"))
    assert "network.layers" not in {key for key, *_ in differences(a, b)}
