"""Presets, --set and flags: what wins, where it came from, and what is said when it is wrong."""

import pytest

from hepcli.config import Config, load_config, load_sweep
from hepcli.errors import ConfigError


def fault(overrides, preset=None, flags=None):
    """Return the one error that these overrides raise."""
    with pytest.raises(ConfigError) as caught:
        load_config(preset, overrides, flags)
    return caught.value


@pytest.fixture
def own_preset(tmp_path):
    """Write a preset with only what has no default."""
    path = tmp_path / "mine.toml"
    path.write_text(
        '[run]\nepochs = 3\n[data]\nname = "cifar10"\n'
        '[network]\nactivation = "dsilu"\nconnections = ["in-out"]\nlayers.out.units = 10\n'
        '[gradient]\nmethod = "rbp"\n[optimizer]\nname = "sgd"\nlearning_rate = 1\n'
    )
    return path


def test_no_preset_is_quickstart():
    resolved = load_config(None)
    assert resolved.preset == "quickstart"
    assert resolved.config.data.name == "fashion_mnist_mini"


def test_precedence_and_sources(own_preset):
    resolved = load_config(str(own_preset), ["run.epochs=4"], {"run.seed": 7})
    config, sources = resolved.config, resolved.sources
    assert resolved.preset == "mine"
    assert (config.run.epochs, sources["run.epochs"]) == (4, "flag")
    assert (config.run.seed, sources["run.seed"]) == (7, "flag")
    assert (config.data.name, sources["data.name"]) == ("cifar10", f"file {own_preset}")
    assert (config.data.batch_size, sources["data.batch_size"]) == (50, "default")
    assert sources["network.layers.out.units"] == f"file {own_preset}"
    assert sources["network.layers.out.kind"] == "default"
    assert sources["relaxation.tolerance"] == "default"


def test_defaults_are_the_documented_ones(own_preset):
    config = load_config(str(own_preset)).config
    assert config.run.seed == 0
    assert (config.data.batch_size, config.data.eval_batch_size) == (50, 1000)
    assert (config.network.loss, config.network.readout) == ("cross_entropy", True)
    assert config.network.initial_angle_deg == 0.0
    assert config.network.layers["out"].kind == "dense"
    relaxation = config.relaxation
    assert (relaxation.solver, relaxation.free_steps, relaxation.nudged_steps) == ("alternating", 150, 20)
    assert relaxation.tolerance == 0.0
    gradient = config.gradient
    assert (gradient.num_points, gradient.beta_radius) == (2, 0.5)
    assert (gradient.online_cycles, gradient.adjoint_steps) == (5, 200)
    assert (config.homeostasis.weight, config.homeostasis.num_draws) == (0.0, 5)
    optimizer = config.optimizer
    assert (optimizer.schedule, optimizer.momentum, optimizer.weight_decay) == ("constant", 0.9, 0.0)
    assert (optimizer.learning_rate_multipliers, optimizer.weight_decay_multipliers) == ({}, {})
    saved = config.checkpoints
    assert (saved.every_steps, saved.keep_latest, saved.keep_best, saved.keep_every_epochs) == (0, 2, 1, 0)


def test_flag_source_only_on_the_key_that_was_set():
    sources = load_config(None, ["network.layers.l1.units=128"]).sources
    assert sources["network.layers.l1.units"] == "flag"
    assert sources["network.layers.l1.kind"] == "preset fashion-mnist"
    assert sources["network.layers.l2.units"] == "preset fashion-mnist"


def test_whole_table_as_override():
    resolved = load_config(
        None, ["network.layers={l1={units=3}, out={units=10}}", 'network.connections=["in-l1","l1-out"]']
    )
    assert {name: layer.units for name, layer in resolved.config.network.layers.items()} == {
        "l1": 3,
        "out": 10,
    }
    assert resolved.sources["network.layers.l1.units"] == "flag"
    assert resolved.sources["network.layers.l1.kind"] == "default"
    assert "network.layers.l2.units" not in resolved.sources


def test_a_whole_table_is_merged_and_undoes_nothing_said_before():
    config = load_config("quickstart", ["optimizer={learning_rate=0.5}"]).config
    assert (config.optimizer.learning_rate, config.optimizer.schedule) == (0.5, "cosine")
    with pytest.raises(ConfigError, match=r"would undo --set run\.seed"):
        load_config("quickstart", ["run.seed=5", "run={epochs=1}"])
    with pytest.raises(ConfigError, match="one hash for each of the 1 files"):
        load_config("quickstart", ['code={files=["a.py"]}'])


def test_multiplier_override_takes_over_the_source_of_the_empty_table():
    resolved = load_config(None, ["optimizer.learning_rate_multipliers.readout=5"])
    assert resolved.config.optimizer.learning_rate_multipliers == {"readout": 5.0}
    assert resolved.sources["optimizer.learning_rate_multipliers.readout"] == "flag"
    assert "optimizer.learning_rate_multipliers" not in resolved.sources


@pytest.mark.parametrize("text", ["rbp", '"rbp"', " 'rbp' ", "'rbp' # a comment"])
def test_values_are_toml_else_text(text):
    assert load_config(None, [f"gradient.method={text}"]).config.gradient.method == "rbp"


def test_the_last_set_of_a_key_wins():
    assert load_config(None, ["run.epochs=4", "run.epochs=6"]).config.run.epochs == 6


def test_a_whole_number_will_do_for_a_float():
    rate = load_config(None, ["optimizer.learning_rate=1"]).config.optimizer.learning_rate
    assert isinstance(rate, float)


def test_split_at_the_first_equals_sign():
    assert 'gradient.method = "a=b"' in fault(["gradient.method=a=b"]).what


def test_flags_that_were_not_given_are_ignored():
    assert load_config(None, flags={"run.seed": None}).sources["run.seed"] == "preset fashion-mnist"


def test_flag_and_set_for_one_key():
    error = fault(["run.seed=1"], flags={"run.seed": 1})
    assert error.what == "run.seed: set by both --seed and --set run.seed; give one of them"
    whole = fault(["run={seed=1, epochs=2}"], flags={"run.seed": 1})
    assert "set by both --seed and --set run;" in whole.what


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.epochs", "--set run.epochs: must be KEY=VALUE, such as run.epochs=5"),
        ("=5", "--set =5: must name a key"),
        ("run..epochs=5", "--set run..epochs=5: must name a key"),
        ("run.epochs.x=1", "run.epochs.x = 1: run.epochs is a value, not a table"),
        ("optimizer.lr=3", "did you mean optimizer.learning_rate?"),
        ("wd=3", "did you mean optimizer.weight_decay?"),
        ("network.angle=3", "did you mean network.initial_angle_deg?"),
        ("run.sed=3", "run.sed = 3: there is no such key; did you mean run.seed?"),
        ("relaxation.fre=3", "did you mean relaxation.free_steps?"),
        ("relaxation.foo=3", "relaxation.foo = 3: there is no such key"),
        ("gradient.nu=3", "gradient.nu = 3: there is no such key; did you mean gradient.num_points?"),
        ("free_steps=3", "free_steps = 3: there is no such key; did you mean relaxation.free_steps?"),
        ("gradient.free_steps=3", "did you mean relaxation.free_steps?"),
        ("relaxation.fre_stepz=3", "did you mean relaxation.free_steps?"),
        ("network.layers.l1.unit=3", "did you mean network.layers.l1.units?"),
        ('optimiser.name="sgd"', "optimiser: there is no such table; did you mean optimizer?"),
        ("run.zzzzzzzz=3", "run.zzzzzzzz = 3: there is no such key"),
        ("run=5", "run = 5: must be a table"),
        ("run.epochs=\udc80", 'run.epochs = "?": must be a whole number'),
        ("run.epochs=1\nrun.seed=2", "run.epochs = "),
    ],
)
def test_keys_that_do_not_exist(override, message):
    error = fault([override])
    assert message in error.what
    is_about_value = "must be a" in message or message == "run.epochs = "
    assert ("hep presets quickstart" in error.advice) != is_about_value


def test_all_errors_at_once():
    error = fault(
        [
            "relaxation.free_steps=-3",
            "run.sed=1",
            "foo",
            "gradient.beta_radius=nan",
            "network.loss=mse",
            'network.connections=["in-l9"]',
            "optimizer.weight_decay_multipliers.in-l8=1",
            "run.seed=1",
        ],
        flags={"run.seed": 2},
    )
    first, *lines = error.what.splitlines()
    assert first == f"{len(lines)} settings are not allowed:"
    assert len(lines) == 8
    for key in ("relaxation.free_steps", "run.sed", "--set foo", "gradient.beta_radius", "network.loss"):
        assert sum(line.startswith(f"  {key}") for line in lines) == 1
    assert sum("there is no layer l9" in line for line in lines) == 1
    assert sum("no connection in-l8" in line for line in lines) == 1
    assert sum("set by both" in line for line in lines) == 1


def test_one_error_stands_on_the_first_line():
    assert fault(["relaxation.free_steps=-3"]).what == "relaxation.free_steps = -3: must be at least 1"


def test_unknown_preset():
    error = fault([], preset="quickstrat")
    assert "did you mean quickstart?" in error.what
    assert "fashion-mnist-loop" in error.what
    assert "hep presets" in error.advice


def test_empty_preset_name_is_not_the_default():
    assert "there is no preset" in fault([], preset="").what


def test_missing_preset_file(tmp_path):
    assert "there is no such file" in fault([], preset=str(tmp_path / "none.toml")).what


def test_folder_as_preset(tmp_path):
    assert "cannot read" in fault([], preset=f"{tmp_path}/").what


def test_preset_that_is_not_text(tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in fault([], preset=str(path)).what


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[run]\nepochs = 3\nseed = \n", "line 3"),
        ("[run]\nepochs = [1,\n2", "line 3"),
        ("a=1\na=2", "line 2"),
    ],
    ids=["value", "end", "twice"],
)
def test_broken_toml_names_the_line(tmp_path, text, line):
    path = tmp_path / "x.toml"
    path.write_text(text)
    error = fault([], preset=str(path))
    assert f"file {path} is not valid TOML: {line}" in error.what


def test_missing_keys_are_named(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text("")
    what = fault([], preset=str(path)).what
    for key in (
        "run.epochs",
        "data.name",
        "network.activation",
        "network.layers",
        "network.connections",
        "gradient.method",
        "optimizer.name",
        "optimizer.learning_rate",
    ):
        assert f"\n  {key}: is required" in what
    assert len(what.splitlines()) == 9


def test_defaults_are_complete_and_keys_unique(own_preset):
    resolved = load_config(str(own_preset))
    assert {key.partition(".")[0] for key in resolved.sources} == set(Config.model_fields) - {"code"}


@pytest.mark.parametrize("depth", [33, 359, 5000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a=", "}")])
def test_what_is_nested_too_deeply_is_refused_in_words(tmp_path, depth, opening, closing):
    value = opening * depth + "1" + closing * depth
    with pytest.raises(ConfigError, match=r"data\.name"):
        load_config(None, (f"data.name={value}",))
    (tmp_path / "deep.toml").write_text(f"[data]\nname = {value}\n")
    with pytest.raises(ConfigError, match="levels deep"):
        load_config(str(tmp_path / "deep.toml"))


@pytest.mark.parametrize("path", ["~nosuchuser/x.toml", "a\0.toml"])
def test_paths_that_can_be_none(path):
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(path)
    with pytest.raises(ConfigError, match="cannot read"):
        load_sweep(path)


@pytest.mark.parametrize("value", ["0x" + "f" * 5000, '"a\\u0000b"'])
@pytest.mark.parametrize("key", ["run.seed", "run.init_from"])
def test_what_no_text_or_path_can_hold_is_refused_in_words(tmp_path, key, value):
    table, name = key.split(".")
    file = tmp_path / "mine.toml"
    file.write_text(f'extends = "quickstart"\n[{table}]\n{name} = {value}\n')
    with pytest.raises(ConfigError):
        load_config(str(file))
    if key == "run.seed":
        with pytest.raises(ConfigError):
            load_config("quickstart", [f"{key}={value}"])
