"""Keys of an estimator of a user's own: set, checked, recorded, varied and hashed like others."""

import numpy as np
import pytest

import hepcli
from hepcli.config import config_hash, load_config
from hepcli.errors import ConfigError


@pytest.fixture
def scaled():
    """A signal that is its option `rate` times the state, and its name."""

    @hepcli.register_estimator("scaled", has_nudged_record=False, options={"rate": 1.0, "kind": "plain"})
    def scaled(free):
        rate = free.problem.signal_settings.options["rate"]
        return {name: rate * u for name, u in free.phase.state.items()}, None

    return "scaled"


def own(tiny, **options):
    return tiny | {"gradient.method": "scaled"} | {f"gradient.options.{k}": v for k, v in options.items()}


def test_an_option_reaches_the_estimator_and_is_part_of_the_configuration(scaled, tiny):
    models = [hepcli.init_model("quickstart", own(tiny, **options)) for options in ({}, {"rate": 3})]
    images, labels, *_ = models[0].split("train")
    once, thrice = (hepcli.estimate(model, images[:4], labels[:4]).error_vector["l1"] for model in models)
    np.testing.assert_allclose(thrice, 3 * once, rtol=1e-6)
    again = hepcli.estimate(models[0], images[:4], labels[:4], overrides={"gradient.options.rate": 2.0})
    np.testing.assert_allclose(again.error_vector["l1"], 2 * once, rtol=1e-6)
    assert dict(models[1].config.gradient.options) == {"rate": 3.0, "kind": "plain"}
    assert len({config_hash(model.config) for model in models}) == 2
    assert hepcli.estimate(models[1], images[:4], labels[:4], "hep_exact").error_vector


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rat": 1.0}, "scaled has no such option; did you mean rate"),
        ({"rate": "fast"}, r"gradient\.options\.rate = \"fast\": must be of type float"),
        ({"kind": 1}, "must be of type str"),
    ],
)
def test_options_have_the_names_and_types_of_their_defaults(scaled, tiny, options, message):
    with pytest.raises(ConfigError, match=message):
        hepcli.init_model("quickstart", own(tiny, **options))


def test_estimators_without_options_are_given_none():
    with pytest.raises(ConfigError, match="hep has no options"):
        load_config("quickstart", ["gradient.options.rate=1"])


@pytest.mark.parametrize("settings", [["gradient.method=hep_exact"], ['gradient={method="hep_exact"}']])
def test_another_method_is_chosen_without_the_options_of_the_former(scaled, tmp_path, settings):
    base, heir = tmp_path / "base.toml", tmp_path / "heir.toml"
    base.write_text('extends = "quickstart"\n[gradient]\nmethod = "scaled"\noptions = {rate = 2.0}\n')
    assert load_config(str(base)).config.gradient.options["rate"] == 2.0
    found = load_config(str(base), settings)
    assert (dict(found.config.gradient.options), found.sources["gradient.options"]) == ({}, "default")
    assert load_config(str(base), ["gradient.method=scaled"]).config.gradient.options["rate"] == 2.0
    heir.write_text('extends = "base.toml"\n[gradient]\nmethod = "hep_exact"\n')
    assert load_config(str(heir)).config.gradient.method == "hep_exact"
    with pytest.raises(ConfigError, match="hep_exact has no options"):
        load_config(str(heir), ["gradient.options.rate=1"])


def test_a_run_keeps_its_options_and_a_sweep_varies_them(scaled, tiny, tmp_path):
    out = hepcli.train("quickstart", own(tiny, rate=2), tmp_path / "run", epochs=1).folder
    assert hepcli.load_run(out).config.gradient.options["rate"] == 2.0
    with pytest.raises(ConfigError, match=r"gradient\.options\.rate = 3"):
        hepcli.train(None, {"gradient.options.rate": 3}, out, resume=True)
