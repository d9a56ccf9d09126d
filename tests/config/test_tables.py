"""The rule of every key, with the message that states it."""

from dataclasses import FrozenInstanceError

import pytest

from hepcli.config import Config, config_hash, load_config
from hepcli.errors import ConfigError
from hepcli.settings import HardwareSettings


def message(*overrides):
    """Return what is said about these overrides of quickstart."""
    with pytest.raises(ConfigError) as caught:
        load_config("quickstart", overrides)
    return caught.value.what


@pytest.mark.parametrize(
    ("key", "lowest"),
    [
        ("run.seed", 0),
        ("run.epochs", 1),
        ("data.batch_size", 1),
        ("data.eval_batch_size", 1),
        ("network.layers.l1.units", 1),
        ("relaxation.free_steps", 1),
        ("relaxation.nudged_steps", 1),
        ("gradient.num_points", 1),
        ("gradient.online_cycles", 1),
        ("gradient.adjoint_steps", 1),
        ("homeostasis.num_draws", 1),
        ("checkpoints.every_steps", 0),
        ("checkpoints.keep_latest", 1),
        ("checkpoints.keep_best", 0),
        ("checkpoints.keep_every_epochs", 0),
    ],
)
class TestWholeNumbers:
    def test_lowest(self, key, lowest):
        load_config("quickstart", [f"{key}={lowest}"])
        assert message(f"{key}={lowest - 1}") == f"{key} = {lowest - 1}: must be at least {lowest}"

    @pytest.mark.parametrize("text", ['"5"', "5.5", "5.0", "true", "nan", "[5]", "five"])
    def test_other_types(self, key, lowest, text):
        assert message(f"{key}={text}").endswith(("must be a whole number", "must be a finite number")), (
            "no conversion"
        )


@pytest.mark.parametrize(
    ("key", "allowed", "refused", "rule"),
    [
        (
            "network.initial_angle_deg",
            (0, 90, 45.5),
            (-1, 90.5),
            ("must be at least 0", "must be at most 90"),
        ),
        ("relaxation.tolerance", (0, 1e-4), (-1e-9,), ("must be at least 0",)),
        ("gradient.beta_radius", (1e-9, 2), (0, -1), ("must be greater than 0",)),
        ("homeostasis.weight", (0, 15), (-1,), ("must be at least 0",)),
        ("optimizer.learning_rate", (1e-9, 1), (0, -1), ("must be greater than 0",)),
        ("optimizer.momentum", (0, 0.99), (-0.1, 1, 1.5), ("must be at least 0", "must be less than 1")),
        ("optimizer.weight_decay", (0, 1), (-1,), ("must be at least 0",)),
        ("optimizer.learning_rate_multipliers.in-l1", (0, 25), (-1,), ("must be at least 0",)),
        ("optimizer.weight_decay_multipliers.readout", (0, 2), (-1,), ("must be at least 0",)),
    ],
)
class TestFloats:
    def test_range(self, key, allowed, refused, rule):
        for value in allowed:
            load_config("quickstart", [f"{key}={value}"])
        for value in refused:
            assert message(f"{key}={value}").startswith(f"{key} = {value}: ")
            assert message(f"{key}={value}").endswith(rule)

    @pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
    def test_finite(self, key, allowed, refused, rule, text):
        assert message(f"{key}={text}") == f"{key} = {text}: must be a finite number"

    @pytest.mark.parametrize("text", ['"0.5"', "true", "half", ".5"])
    def test_other_types(self, key, allowed, refused, rule, text):
        assert message(f"{key}={text}").endswith("must be a number, written like 0.5 or 1e-3")


NO_READOUT = ("network.readout=false", "network.loss=squared_error")  # some rules hold out at the targets


@pytest.mark.parametrize(
    ("key", "names"),
    [
        (
            "network.activation",
            "sigmoid, dsilu, tanh, softplus, linear, hard_sigmoid, relu6, clipped_relu(CEILING)",
        ),
        ("network.loss", "cross_entropy, squared_error"),
        ("relaxation.solver", "synchronous, alternating, anderson"),
        (
            "gradient.method",
            "hep, hep_exact, online_hep, rbp, neumann_rbp, bptt, asymep, asymep_exact, dyadic_ep, "
            "contrastive_ep, contrastive_hebbian, coupled_learning, dual_propagation, predictive_coding, "
            "feedforward",
        ),
        ("optimizer.name", "sgd, adamw"),
        ("optimizer.schedule", "constant, cosine"),
        ("data.augmentation", "none, flip_crop, rand_augment"),
        ("data.crop_border", "black, edge"),
    ],
)
def test_choices(key, names):
    for name in names.split(", "):
        own = f"{key}={name.replace('CEILING', '2.0')}"
        load_config("quickstart", [*(NO_READOUT if key == "gradient.method" else ()), own])
    assert message(f"{key}=zzz") == f'{key} = "zzz": must be one of {names}'
    first = names.split(", ")[0]
    assert f"did you mean {first}?" in message(f"{key}={first}x")
    assert message(f"{key}=5") == f"{key} = 5: must be one of {names}"


@pytest.mark.parametrize("without", ["optimizer.momentum=0", "optimizer.name=adamw"])
def test_nesterov_needs_momentum(without):
    load_config("quickstart", ["optimizer.nesterov=true"])
    rule = 'optimizer.nesterov = true: needs optimizer.name = "sgd" and optimizer.momentum above 0'
    assert message("optimizer.nesterov=true", without) == rule


def test_data_sets_are_known_ones_or_may_be_of_the_users_own():
    load_config("quickstart", ["data.name=my_flowers"])
    for name in ("fashion_mnits", "cifar-10", "Flowers", "5"):
        assert "must be one of fashion_mnist_mini, fashion_mnist, mnist, " in message(f"data.name={name}")
    assert message("data.name=fashion_mnits").endswith("; did you mean fashion_mnist?")


def test_seed_fits_a_random_key():
    load_config("quickstart", ["run.seed=4294967295"])
    assert message("run.seed=4294967296") == "run.seed = 4294967296: must be at most 4294967295"


def test_online_hep_needs_two_points():
    load_config("quickstart", ["gradient.num_points=1"])
    load_config("quickstart", ["gradient.method=online_hep"])
    assert message("gradient.method=online_hep", "gradient.num_points=1") == (
        'gradient.num_points = 1: must be at least 2 with gradient.method = "online_hep"'
    )


def test_cross_entropy_needs_the_readout():
    load_config("quickstart", ["network.readout=false", "network.loss=squared_error"])
    text = message("network.readout=false")
    assert text.startswith('network.readout = false: must be true with network.loss = "cross_entropy"')
    assert message("network.readout=1") == "network.readout = 1: must be true or false"


@pytest.mark.parametrize("table", ["learning_rate_multipliers", "weight_decay_multipliers"])
def test_multipliers_name_connections(table):
    key = f"optimizer.{table}"
    load_config("quickstart", [f"{key}.l2-l1=2", f"{key}.readout=5"])
    text = message(f"{key}.l1-l3=1")
    assert text == f"{key}.l1-l3 = 1.0: the network has no connection l1-l3; did you mean l1-l2?"
    assert "did you mean readout?" in message(f"{key}.readut=1")
    assert message(f"{key}=5") == f"{key} = 5: must be a table"


def test_readout_multiplier_needs_a_readout():
    text = message(
        "network.readout=false",
        "network.loss=squared_error",
        "optimizer.learning_rate_multipliers.readout=2",
    )
    assert "the network has no connection readout" in text


def test_tables_are_frozen():
    config = load_config("quickstart").config
    with pytest.raises(FrozenInstanceError):
        config.run.seed = 4


def test_nothing_is_accepted_beyond_the_tables():
    assert list(Config.model_fields) == [
        "run",
        "data",
        "network",
        "relaxation",
        "gradient",
        "homeostasis",
        "optimizer",
        "hardware",
        "checkpoints",
        "code",
    ]


@pytest.mark.parametrize("method", ["online_hep", "dyadic_ep"])
def test_without_a_free_phase_no_state_persists(method):
    text = message("relaxation.persistent_state=true", f"gradient.method={method}")
    assert text == f"relaxation.persistent_state = true: {method} has no free phase; set it to false"


def test_without_a_free_phase_none_is_in_lower_precision():
    text = message("relaxation.free_precision=float16", "gradient.method=online_hep")
    assert text == 'relaxation.free_precision = "float16": online_hep has no free phase; set it to float32'


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("solver", "anderson"),
        ("nudged_solver", "anderson"),
        ("tolerance", "1e-3"),
        ("nudged_tolerance", "1e-3"),
        ("unsettled", "skip"),
    ],
)
def test_noise_forbids_what_waits_for_rest(key, value):
    silent = ["relaxation.tolerance=0.0", f"relaxation.{key}={value}"]
    load_config("quickstart", silent)
    with pytest.raises(
        ConfigError, match=rf"relaxation\.{key} = .*cannot be used with .*: noisy states never settle"
    ):
        load_config("quickstart", [*silent, "relaxation.noise_std=0.1"])


def test_devices_belong_to_no_hash():
    one, two = (load_config(None, [f"run.devices={n}"]).config for n in (0, 2))
    assert config_hash(one) == config_hash(two)


def test_hardware_changes_weights_where_any_of_its_imperfections_does():
    for key, value in (("weight_bits", 4), ("mismatch_std", 0.1), ("read_noise_std", 0.1)):
        assert HardwareSettings(**{key: value}).changes_weights, key
    assert not HardwareSettings(update_step=0.1).changes_weights  # it is not read, but written
