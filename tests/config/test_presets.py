"""The presets that ship: every one is valid, depends on no default, and stays what it is."""

import subprocess
import sys
import tomllib

import pytest

from hepcli.config import (
    config_hash,
    list_presets,
    load_config,
    load_sweep,
    preset_header,
    preset_text,
    presets_folder,
)
from hepcli.errors import ConfigError
from hepcli.experiments.presets import preset_text as shown_text

NAMES = [info.name for info in list_presets()]
BASE, FAMILIES = "fashion-mnist", ("fashion-mnist", "cifar10", "cifar10-hopfield-resnet13")
HASHES = {
    "cifar10": "d2d0651a89af",
    "cifar10-hopfield-resnet-small": "651d1c38a7ec",
    "cifar10-hopfield-resnet13": "69e45ad4566b",
    "cifar10-small": "eac28517db20",
    "cifar10-vgg5": "b1787a02de0b",
    "cifar100": "5763c1eb5e16",
    "fashion-mnist": "4d36e58f3613",
    "fashion-mnist-asymep": "70d118ab12ad",
    "fashion-mnist-homeostasis": "a13f00ed6b80",
    "fashion-mnist-loop": "88f431aab79f",
    "fashion-mnist-loop-asymep": "3b89df58690d",
    "imagenet32": "c5e0b17d7a9c",
    "quickstart": "3e9512b6434a",
}
WHEN_TO_CHANGE = (
    "{name} resolves to other values than it did. Sweep folders name their runs by this hash. Change it only "
    "where the preset is meant to compute something else, and name the preset in CHANGELOG.md; a new key at "
    "its default, or a value that moves to or from a base, must leave it as it is."
)


def test_the_promised_presets_are_there():
    dense = {"quickstart", "fashion-mnist", "fashion-mnist-homeostasis", "fashion-mnist-loop"}
    assert dense | {"cifar10", "cifar100", "imagenet32", "cifar10-small"} <= set(NAMES)
    assert sorted(NAMES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_states_all_keys(name):
    """With what it extends: a default that changes changes no preset."""
    own = tomllib.loads(preset_text(name))
    chain, base = [name], own
    while "extends" in base:
        chain.append(base["extends"])
        base = tomllib.loads(preset_text(chain[-1]))
    assert set(load_config(name).sources.values()) == {f"preset {member}" for member in chain}
    assert own.get("extends") in (FAMILIES if name != BASE else [None])


@pytest.mark.parametrize("name", NAMES)
def test_an_extending_preset_states_only_what_differs(name):
    own = tomllib.loads(preset_text(name))
    base = load_config(own.pop("extends", name)).config.model_dump(mode="json")
    same = [f"{table}.{key}" for table in own for key in own[table] if own[table][key] == base[table][key]]
    assert name == BASE or same == []


def test_hashes_stay_from_version_to_version():
    assert sorted(HASHES) == NAMES
    for name, pinned in HASHES.items():
        assert config_hash(load_config(name).config) == pinned, WHEN_TO_CHANGE.format(name=name)


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_opens_with_its_header(name):
    text, header = preset_text(name), preset_header(name).splitlines()
    assert text.partition("\n\n")[0].splitlines() == header
    assert all(line.startswith("# ") for line in header)
    for field in ("# Source: ", "# Command: hep train", "# Expected: ", "# Time: "):
        assert any(line.startswith(field) for line in header), field


@pytest.mark.parametrize("info", list_presets(), ids=NAMES)
def test_titles(info):
    assert preset_text(info.name).startswith(f"# {info.title}\n")
    assert 10 < len(info.title) < 100


def test_names_of_sweeps_are_found():
    assert shown_text("table1") == shown_text("sweeps/table1") == preset_text("sweeps/table1")
    with pytest.raises(ConfigError, match="table1 is a sweep, not a preset") as error:
        load_config("table1")
    assert error.value.advice == "Run `hep sweep table1`."
    with pytest.raises(ConfigError, match="quickstart is a preset, not a sweep"):
        load_sweep("quickstart")


def test_advice_fits_the_fault():
    with pytest.raises(ConfigError) as wrong_value:
        load_config("quickstart", ("gradient.num_points=many",))
    with pytest.raises(ConfigError) as wrong_key:
        load_config("quickstart", ("gradient.points=2",))
    assert wrong_value.value.advice.startswith("Correct the value, or leave it out")
    assert "hep presets quickstart" not in wrong_value.value.advice
    assert "hep presets quickstart" in wrong_key.value.advice


def test_preset_text_of_an_unknown_name():
    with pytest.raises(ConfigError, match=r"did you mean fashion-mnist\?"):
        preset_text("fashion-mnst")


def test_a_file_of_the_same_text_gives_the_same_configuration(tmp_path):
    path = tmp_path / "copy.toml"
    path.write_text(preset_text("fashion-mnist-loop"), encoding="utf-8")
    assert load_config(str(path)).config == load_config("fashion-mnist-loop").config


def test_settings_of_the_paper():
    homeostasis = load_config("fashion-mnist-homeostasis").config
    assert homeostasis.network.initial_angle_deg == 90.0
    assert any(map(homeostasis.network.partner, homeostasis.network.connections))
    assert (homeostasis.optimizer.name, homeostasis.optimizer.learning_rate) == ("adamw", 1e-4)
    assert (homeostasis.gradient.method, homeostasis.homeostasis.weight) == ("hep_exact", 1.0)
    loop = load_config("fashion-mnist-loop").config
    assert not any(map(loop.network.partner, loop.network.connections))
    assert (loop.gradient.method, loop.homeostasis.weight) == ("hep_exact", 0.1)
    table1 = load_config("fashion-mnist").config
    assert (table1.gradient.method, table1.gradient.num_points, table1.gradient.beta_radius) == (
        "hep",
        2,
        0.5,
    )
    assert (table1.run.epochs, table1.data.batch_size) == (50, 50)


@pytest.mark.parametrize(
    ("name", "weight", "rate", "epochs"),
    [("cifar10", 15.0, 7e-3, 150), ("cifar100", 15.0, 7e-3, 150), ("imagenet32", 10.0, 5e-3, 90)],
)
def test_settings_of_table_2(name, weight, rate, epochs):
    config = load_config(name).config
    assert (config.data.name, config.data.batch_size, config.run.epochs) == (name, 256, epochs)
    assert (config.homeostasis.weight, config.optimizer.learning_rate) == (weight, rate)
    assert [layer.channels for layer in config.network.layers.values()] == [128, 256, 512, 512]
    assert [layer.padding for layer in config.network.layers.values()] == ["same", "same", "same", "valid"]
    assert (config.relaxation.free_steps, config.relaxation.nudged_steps) == (250, 40)
    assert (config.relaxation.free_precision, config.gradient.method) == ("float16", "hep_exact")
    assert config.optimizer.learning_rate_multipliers["in-conv1"] == 25.0


def test_presets_folder_holds_the_quickstart():
    assert (presets_folder() / "quickstart.toml").is_file()


def test_this_room_loads_no_array_library():
    code = (
        "import sys, hepcli.config, hepcli.errors\n"
        "for preset in hepcli.config.list_presets(): hepcli.config.load_config(preset.name)\n"
        "try: hepcli.config.load_config('quickstart', ['relaxation.fre=3'])\n"
        "except hepcli.errors.ConfigError: print({'jax', 'numpy', 'flax'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
