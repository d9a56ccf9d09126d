"""Keys of a user's own estimators, solvers and optimisers: set, checked, recorded, varied and hashed."""

import json

import jax
import numpy as np
import optax
import pytest

import hepcli
from hepcli.config import config_hash, load_config
from hepcli.errors import CodeError, ConfigError


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


def test_a_solver_has_options_and_as_the_nudged_one_its_defaults(tiny):
    asked = []

    @hepcli.register_solver("damped", options={"share": 0.5})
    class Damped:
        memory = 0

        def __init__(self, settings):
            asked.append(dict(settings.options))
            self.share = settings.options["share"]

        def num_passes(self, dynamics, steps):
            return 2 * steps

        def step(self, dynamics, state, count):
            moved = dynamics.move(state, dynamics.layers, count, 0)
            return jax.tree.map(lambda u, v: u + self.share * (v - u), state, moved)

    def signal(**overrides):
        asked.clear()
        settings = {"free_steps": 100, "nudged_steps": 100} | overrides
        model = hepcli.init_model("quickstart", tiny | {f"relaxation.{k}": v for k, v in settings.items()})
        images, labels, *_ = model.split("train")
        return hepcli.estimate(model, images[:4], labels[:4]).error_vector["l1"]

    plain = signal()
    whole = signal(solver="damped", **{"options.share": 1.0})
    assert all(options == {"share": 1.0} for options in asked)
    np.testing.assert_allclose(whole, plain, rtol=0.02, atol=1e-4)
    beside = signal(nudged_solver="damped")
    assert all(options == {"share": 0.5} for options in asked)
    np.testing.assert_allclose(beside, plain, rtol=0.02, atol=1e-4)
    with pytest.raises(ConfigError, match=r"relaxation\.options = .*alternating has no options"):
        signal(nudged_solver="damped", **{"options.share": 0.1})


def test_an_optimiser_learns_with_its_options(tiny, tmp_path):
    @hepcli.register_optimizer("lion", options={"b1": 0.9})
    def lion(settings, decay):
        return optax.chain(optax.scale_by_lion(b1=settings.options["b1"]), decay)

    chosen = tiny | {"optimizer.name": "lion", "optimizer.learning_rate": 1e-3}
    losses = []
    for number, options in enumerate(({}, {"optimizer.options.b1": 0.9}, {"optimizer.options.b1": 0.1})):
        done = hepcli.train("quickstart", chosen | options, tmp_path / str(number), epochs=1)
        losses.append(json.loads((done.folder / "metrics.jsonl").read_text())["train"]["loss"])
    assert losses[0] == losses[1] != losses[2]
    with pytest.raises(ConfigError, match=r"optimizer\.options\.b2 = 1.0: lion has no such option"):
        hepcli.init_model("quickstart", chosen | {"optimizer.options.b2": 1.0})
    with pytest.raises(CodeError, match=r"optimiser other: options = \{'b 1': 0.9\} is not a mapping"):
        hepcli.register_optimizer("other", options={"b 1": 0.9})
