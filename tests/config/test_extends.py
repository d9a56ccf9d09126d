"""Presets that extend others: the same as the merged whole, and every value with where it is stated."""

import tempfile
from pathlib import Path

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from hepcli.config import config_hash, dump_config, flatten, list_presets, load_config, preset_header
from hepcli.config.extends import read_stated
from hepcli.errors import ConfigError

NAMES = [info.name for info in list_presets()]
WHOLE = {name: load_config(name).config.model_dump(mode="json") for name in NAMES}
MULTIPLIERS = "learning_rate_multipliers"


def write(path, extends, tables=None):
    """Write a preset, `extends` first; None leaves it out."""
    first = {} if extends is None else {"extends": extends}
    path.write_text(tomlkit.dumps(first | (tables or {})), encoding="utf-8")
    return str(path)


def refused(preset):
    with pytest.raises(ConfigError) as caught:
        load_config(preset)
    assert caught.value.advice
    return caught.value.what


@st.composite
def some_keys(draw):
    """Some of the keys of a shipped preset, in tables."""
    whole = WHOLE[draw(st.sampled_from(NAMES))]
    tables = {}
    for name in draw(st.lists(st.sampled_from(list(whole)), unique=True)):
        keys = draw(st.lists(st.sampled_from(list(whole[name])), unique=True))
        tables[name] = {key: whole[name][key] for key in keys}
    return tables


def merged(*layers):
    """The law: table by table, the keys of later layers in place of earlier ones."""
    names = dict.fromkeys(name for layer in layers for name in layer)
    return {
        name: {key: value for layer in layers for key, value in layer.get(name, {}).items()} for name in names
    }


def in_order(tables):
    """Tables whose layers compare in their order, too."""
    layers = tables.get("network", {}).get("layers", {})
    return tables, list(layers)


@given(base=st.sampled_from(NAMES), middle=some_keys(), top=some_keys())
@settings(deadline=None, max_examples=25)
def test_an_extending_file_equals_the_merged_whole(base, middle, top):
    plain = load_config(base).sources
    with tempfile.TemporaryDirectory() as folder:
        first, second, all_in_one = (Path(folder) / f"{name}.toml" for name in ("first", "second", "whole"))
        write(first, base, middle)
        extended = read_stated(write(second, "first.toml", top))
        whole = merged(WHOLE[base], middle, top)
        assert in_order(extended.tables) == in_order(read_stated(write(all_in_one, None, whole)).tables)
        assert extended.name == "second"
        for key, source in extended.sources.items():
            table, name = key.split(".")[:2]
            if name in top.get(table, {}):
                assert source == f"file {second}"
            elif name in middle.get(table, {}):
                assert source == f"file {first}"
            else:
                assert source == plain[key]
        assert set(extended.sources) == set(flatten({name: table for name, table in whole.items() if table}))


@pytest.mark.parametrize("name", NAMES)
def test_a_printed_preset_is_a_preset_of_the_same_hash(tmp_path, name):
    path = tmp_path / "mine.toml"
    path.write_text(dump_config(load_config(name), preset_header(name)), encoding="utf-8")
    mine = load_config(str(path))
    assert config_hash(mine.config) == config_hash(load_config(name).config)
    assert set(mine.sources.values()) == {f"file {path}"}
    assert preset_header(str(path)) == preset_header(name)
    same = write(tmp_path / "same.toml", "mine.toml")
    assert config_hash(load_config(same).config) == config_hash(mine.config)


def test_preset_file_default_and_flag_as_sources(tmp_path):
    partial = {"run": {"epochs": 3}, "optimizer": {"learning_rate": 0.5}}
    base = write(tmp_path / "base.toml", "quickstart", partial)
    (tmp_path / "further").mkdir()
    top = write(tmp_path / "further" / "top.toml", "../base.toml", {"optimizer": {"learning_rate": 0.1}})
    resolved = load_config(top, ["data.batch_size=25"])
    assert (resolved.preset, resolved.config.optimizer.learning_rate) == ("top", 0.1)
    places = {
        "data.batch_size": "flag",
        "optimizer.learning_rate": f"file {top}",
        "run.epochs": f"file {tmp_path}/further/../base.toml",
        "relaxation.tolerance": "preset quickstart",
        "run.seed": "preset fashion-mnist",
    }
    assert {key: resolved.sources[key] for key in places} == places
    assert load_config(base).sources["run.epochs"] == f"file {base}"


def test_what_no_file_of_a_chain_states_is_a_default(tmp_path):
    network = {"activation": "dsilu", "connections": ["in-out"], "layers": {"out": {"units": 10}}}
    tables = {"data": {"name": "cifar10"}, "network": network, "gradient": {"method": "rbp"}}
    write(tmp_path / "base.toml", None, tables)
    rest = {"run": {"epochs": 1}, "optimizer": {"name": "sgd", "learning_rate": 1.0}}
    resolved = load_config(write(tmp_path / "top.toml", "base.toml", rest))
    assert resolved.sources["network.layers.out.kind"] == "default"
    assert resolved.sources["relaxation.tolerance"] == "default"
    assert resolved.sources["gradient.method"] == f"file {tmp_path / 'base.toml'}"


def test_tables_of_names_are_replaced_as_a_whole(tmp_path):
    layers = {"l2": {"units": 8}, "l1": {"units": 9}, "out": {"units": 10}}
    tables = {"network": {"layers": layers}, "optimizer": {MULTIPLIERS: {"readout": 2.0}}}
    base = write(tmp_path / "base.toml", "fashion-mnist", tables)
    top = load_config(write(tmp_path / "top.toml", "base.toml", {"optimizer": {MULTIPLIERS: {}}}))
    assert list(load_config(base).config.network.layers) == list(top.config.network.layers) == list(layers)
    assert top.config.optimizer.learning_rate_multipliers == {}
    assert top.sources[f"optimizer.{MULTIPLIERS}"] == f"file {tmp_path / 'top.toml'}"
    assert f"optimizer.{MULTIPLIERS}.readout" not in top.sources
    small = {"network": {"layers": {"out": {"units": 10}}, "connections": ["in-out"]}}
    single = load_config(write(tmp_path / "single.toml", "fashion-mnist", small))
    assert list(single.config.network.layers) == ["out"]
    assert "network.layers.l1.units" not in single.sources
    half = {"network": {"layers": {"l1": {"units": 9}}}}
    assert "one layer must be named out" in refused(write(tmp_path / "half.toml", "fashion-mnist", half))


def test_a_circle_names_its_files(tmp_path):
    a, b = (tmp_path / f"{name}.toml" for name in "ab")
    write(a, "b.toml")
    write(b, "./a.toml")
    assert f"circle: file {a} extends file {b} extends file {a}" in refused(str(a))
    top = write(tmp_path / "top.toml", "a.toml")
    assert f"circle: file {top} extends file {a} extends file {b} extends file {a}" in refused(top)
    write(a, "a.toml")
    assert f"circle: file {a} extends file {a}" in refused(str(a))
    link = tmp_path / "link.toml"
    link.symlink_to(a)
    write(a, "link.toml")
    assert f"circle: file {a} extends file {link}" in refused(str(a))


@pytest.mark.parametrize(
    ("base", "says"),
    [
        ("fashion-mnst", 'there is no preset "fashion-mnst"; did you mean fashion-mnist? (presets: '),
        ("", 'there is no preset ""'),
        ("none.toml", "cannot read {folder}/none.toml: there is no such file"),
        ("sweeps/table1", "cannot read {folder}/sweeps/table1: there is no such file"),
        ("broken.toml", "file {folder}/broken.toml is not valid TOML: line 1"),
    ],
)
def test_a_base_that_cannot_be_read(tmp_path, base, says):
    (tmp_path / "broken.toml").write_text("[run\n")
    middle = tmp_path / "middle.toml"
    write(middle, base)
    what = refused(write(tmp_path / "top.toml", "middle.toml"))
    assert what.startswith(f'file {middle}: extends = "{base}": {says.format(folder=tmp_path)}')


@pytest.mark.parametrize("base", [5, True, ["quickstart"], {"name": "quickstart"}, "a\n.toml"])
def test_a_base_that_is_no_name(tmp_path, base):
    top = write(tmp_path / "top.toml", base)
    assert refused(top).startswith(f"file {top}: extends = ")
    assert "must be a string: the name of a preset or the path of a TOML file" in refused(top)


def test_a_base_with_a_null_byte_is_no_toml(tmp_path):
    top = write(tmp_path / "top.toml", "a\0.toml")
    assert refused(top) == f"file {top} is not valid TOML: line 1: a string contains a null byte"


def test_odd_values_are_refused_as_in_one_file(tmp_path):
    top = tmp_path / "top.toml"
    assert "run = 5: must be a table" in refused(write(top, "quickstart", {"run": 5}))
    assert "run.epochs = 0: must be at least 1" in refused(write(top, "quickstart", {"run": {"epochs": 0}}))
    assert "rum: there is no such table; did you mean run?" in refused(write(top, "quickstart", {"rum": {}}))
    misplaced = {"run": {"extends": "fashion-mnist"}}
    assert "there is no such key; did you mean extends?" in refused(write(top, "quickstart", misplaced))
    write(tmp_path / "base.toml", "quickstart", {"run": {"epochs": 0, "sed": 1}})
    both = refused(write(top, "base.toml", {"data": {"batch_size": -1}}))
    assert all(key in both for key in ("run.epochs = 0", "run.sed = 1", "data.batch_size = -1"))
    assert load_config(write(top, "quickstart", {"run": {}})).config == load_config("quickstart").config


def test_only_files_extend():
    with pytest.raises(ConfigError, match="works only inside a preset file; choose the base with --preset"):
        load_config("quickstart", ["extends=fashion-mnist"])
