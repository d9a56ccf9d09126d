"""A user's own components: each run keeps its own, and what is not what it must be is refused."""

import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hepcli
from hepcli.code import load_code
from hepcli.config import config_hash
from hepcli.engine import Estimator, activities, nudged_phases, report
from hepcli.errors import CodeError, ConfigError
from hepcli.experiments.request import TrainRequest
from hepcli.experiments.train import train
from hepcli.networks import Loss
from hepcli.settings import (
    ESTIMATORS,
    LAYER_KINDS,
    LOSSES,
    TRACKERS,
    DenseLayer,
)


def test_models_keep_their_own_parts(tiny, tmp_path):
    """Although the file has changed since the first of them was opened."""
    file, scores = tmp_path / "mine.py", []
    models = []
    for factor in (1, 3):
        file.write_text(
            f'import hepcli\nhepcli.register_activation("scaled")(lambda z: {factor} * z / (1 + z * z))\n'
        )
        models.append(hepcli.init_model("quickstart", tiny | {"network.activation": "scaled"}, code=[file]))
    images = models[0].split("test").images[:3]
    for model in (*models, models[0]):
        scores.append(model.states(images).scores)
    np.testing.assert_array_equal(scores[0], scores[2])
    assert np.abs(scores[0] - scores[1]).max() > 1e-3


def test_a_run_trains_with_its_own_parts_whatever_it_begins_with(tiny, tmp_path):
    file = tmp_path / "mine.py"
    ends = []
    for factor in (1, 3):
        file.write_text(
            f'import hepcli\nhepcli.register_activation("scaled")(lambda z: {factor} * z / (1 + z * z))\n'
        )
        folder, start = tmp_path / f"v{factor}", tmp_path / "v1" if factor == 3 else None
        overrides = tiny | {"network.activation": "scaled"}
        done = hepcli.train("quickstart", overrides, folder, epochs=1, code=[file], init_from=start)
        ends.append(done.summary["test"]["loss"])
    np.testing.assert_allclose(hepcli.evaluate(tmp_path / "v3")["loss"], ends[1], rtol=1e-5)
    again = [f"{key}={value}" for key, value in overrides.items()]
    request = TrainRequest("quickstart", again, {"run.epochs": 1}, tmp_path / "v1", resume=True)
    file.write_bytes((tmp_path / "v1/code/mine.py").read_bytes())
    (*_, end) = train(request._replace(code=[file]))
    assert end.summary["test"]["loss"] == ends[0]


def test_a_config_whose_code_was_taken_out_is_noticed(tiny, tmp_path):
    (tmp_path / "mine.py").write_text('import hepcli\nhepcli.register_activation("unused")(lambda z: z)\n')
    run = hepcli.train("quickstart", tiny, tmp_path / "run", epochs=1, code=[tmp_path / "mine.py"]).folder
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(config[: config.index("[code]")])
    with pytest.raises(ConfigError, match=r"code\.files = nothing: .* has been changed since"):
        hepcli.evaluate(run)


def test_an_array_of_a_data_set_stays_the_users_own():
    images = np.zeros((20, 4, 4, 1), np.uint8)

    @hepcli.register_dataset("zeros")
    def zeros(split):
        return images, np.arange(20) % 2

    model = hepcli.init_model("quickstart", {"data.name": "zeros", "data.batch_size": 10})
    assert not model.split("train").images.flags.writeable
    images[0] = 1


def test_an_activation_of_ones_own_that_is_not_holomorphic_takes_real_nudges_only(tiny):
    hepcli.register_activation("softsign")(lambda z: z / (1 + jnp.abs(z)))
    own = tiny | {"network.activation": "softsign"}
    model = hepcli.init_model("quickstart", own)
    assert model.network.real_only == ("softsign",)
    images, labels, *_ = model.split("test")
    hepcli.estimate(model, images[:2], labels[:2])
    with pytest.raises(ConfigError, match="softsign is not holomorphic, so nudges must be real"):
        hepcli.estimate(model, images[:2], labels[:2], "hep", {"gradient.num_points": 4})
    with pytest.raises(ConfigError, match="softsign is not holomorphic"):
        hepcli.init_model("quickstart", own | {"gradient.num_points": 4})


def test_parts_that_return_something_else_are_refused(tiny):
    hepcli.register_activation("total")(lambda z: z.sum())
    with pytest.raises(CodeError, match="activation total"):
        hepcli.init_model("quickstart", tiny | {"network.activation": "total"})
    entropy = LOSSES["cross_entropy"]
    hepcli.register_loss("mean", Loss(lambda o, y: entropy.value(o, y).mean(), entropy.derivative))
    with pytest.raises(CodeError, match=r"the value of loss mean has shape \(\), not \(512,\)"):
        hepcli.init_model("quickstart", tiny | {"network.loss": "mean"})
    hepcli.register_measure("turns")(lambda measured: 1j * jnp.ones(2))
    with pytest.raises(CodeError, match="measure turns returned complex numbers"):
        hepcli.measure(hepcli.init_model("quickstart", tiny), 2)


def _signal(model, overrides=None):
    images, labels, *_ = model.split("test")
    return hepcli.estimate(model, images[:2], labels[:2], overrides=overrides)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (None, "must return an optax.GradientTransformation, not NoneType"),
        (
            optax.stateless(lambda u, _: jax.tree.map(jnp.sum, u)),
            r"\['bias'\] = float32\[\], not float32\[16\]",
        ),
        (optax.stateless(lambda u, _: jax.tree.leaves(u)), "makes updates of .* not of"),
        (optax.stateless(lambda u, _: jax.tree.map(lambda x: 1j * x, u)), r"complex64\[16\], not float32"),
    ],
)
def test_optimisers_that_do_not_fit_are_refused(tiny, tmp_path, made, message):
    hepcli.register_optimizer("mine")(lambda settings, decay: made)
    with pytest.raises(CodeError, match=f"optimiser mine.*{message}"):
        hepcli.train("quickstart", tiny | {"optimizer.name": "mine"}, tmp_path / "run", epochs=1)


def _nothing():
    return None


@pytest.mark.parametrize(
    ("decorator", "called"),
    [
        (hepcli.register_activation, r"activation mine is called with \(z\), but takes \(\)"),
        (hepcli.register_estimator, r"estimator mine is called with \(free\)"),
        (hepcli.register_optimizer, r"optimiser mine is called with \(settings, decay\)"),
        (hepcli.register_solver, r"solver mine is called with \(settings\)"),
        (hepcli.register_dataset, r"data set mine is called with \(split\)"),
        (hepcli.register_measure, r"measure mine is called with \(measured\)"),
    ],
)
def test_functions_that_take_other_arguments_are_refused(decorator, called):
    with pytest.raises(CodeError, match=called) as error:
        decorator("mine")(_nothing)
    assert "test_own_parts.py, line" in error.value.advice


@pytest.mark.parametrize(
    ("head", "wrong", "right", "key"),
    [
        ("measure('own')\ndef own(measured):", "measured.none", "measured.own.phase.residual", None),
        (
            "estimator('own', has_nudged_record=False)\ndef own(free):",
            "free.none",
            "(free.phase.state, None)",
            "gradient.method",
        ),
        ("optimizer('own')\ndef own(settings, decay):", "optax.stateless(1)", "decay", "optimizer.name"),
    ],
)
def test_a_broken_part_shows_before_the_first_step_and_leaves_no_run(tiny, tmp_path, head, wrong, right, key):
    """So that the same command trains once it is mended."""
    file, out = tmp_path / "own.py", tmp_path / "run"
    overrides = tiny | ({} if key is None else {key: "own"})

    def run(result):
        file.write_text(f"import hepcli, optax\n@hepcli.register_{head}\n    return {result}\n")
        return hepcli.train("quickstart", overrides, out, epochs=1, code=[file])

    with pytest.raises((AttributeError, TypeError, CodeError)):
        run(wrong)
    assert not any(out.glob("checkpoints/*"))
    assert "test" in run(right).summary


class _Step:
    memory = 0

    def __init__(self, change):
        self.change = change

    def num_passes(self, dynamics, steps):
        return steps

    def step(self, dynamics, state, count):
        return self.change(dynamics.move(state, dynamics.layers, count, 0))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (None, "None lacks memory, num_passes, step"),
        (_Step(lambda state: {"l1": state["l1"]}), r"makes a state of \['l1'\], not of \['l1'\], \['l2'\]"),
        (
            _Step(lambda state: jax.tree.map(lambda u: u[:1], state)),
            r"= float32\[1,16\], not float32\[2,16\]",
        ),
    ],
)
def test_solvers_that_do_not_fit_are_refused(tiny, made, message):
    hepcli.register_solver("mine")(lambda settings: made)
    with pytest.raises(CodeError, match=f"solver mine.*{message}"):
        _signal(hepcli.init_model("quickstart", tiny | {"relaxation.solver": "mine"}))


@pytest.fixture
def mine(tiny):
    """Overrides of a network with a layer of a kind that drives with what a function makes of activities."""

    def register(function, is_linear):
        dense = LAYER_KINDS["dense"]

        class Mine:
            module = dense.module

            def is_linear(self, connection):
                return is_linear

            def up(self, connection, kernel, below):
                return dense.up(connection, kernel, function(below))

            def down(self, connection, kernel, below, above):
                return dense.down(connection, kernel, below, function(above))

        @dataclass(frozen=True, kw_only=True)
        class MineLayer(DenseLayer):
            kind: Literal["mine"] = "mine"

        hepcli.register_layer_kind("mine", MineLayer, Mine())
        return tiny | {"network.layers.l2.kind": "mine"}

    return register


def test_an_activation_that_is_registered_again_is_tested_again(tiny):
    own = tiny | {"network.activation": "mine", "gradient.num_points": 4}
    hepcli.register_activation("mine")(jnp.abs)
    with pytest.raises(ConfigError, match="mine is not holomorphic"):
        hepcli.init_model("quickstart", own)
    hepcli.register_activation("mine")(jnp.sin)
    assert hepcli.init_model("quickstart", own).network.real_only == ()


def test_a_layer_kind_must_be_linear_if_it_says_so(mine):
    with pytest.raises(CodeError, match="layer kind mine: connection l1-l2 is not linear"):
        hepcli.init_model("quickstart", mine(jnp.sin, is_linear=True))


def test_feedback_of_a_linear_layer_kind_is_the_transpose_of_its_partner(tiny):
    """Kernels of one shape in both directions would be transposed once too often, without an error."""
    dense = LAYER_KINDS["dense"]

    class Mine:
        is_linear, module, up = dense.is_linear, dense.module, dense.up

        def down(self, connection, kernel, below, above):
            return above @ kernel.T

    @dataclass(frozen=True, kw_only=True)
    class MineLayer(DenseLayer):
        kind: Literal["mine"] = "mine"

    hepcli.register_layer_kind("mine", MineLayer, Mine())
    square = {"network.layers.l2.kind": "mine", "network.layers.l2.units": 16}
    with pytest.raises(CodeError, match="with the kernel of l1-l2, l2-l1 is not its transpose"):
        hepcli.init_model("quickstart", tiny | square)


def test_a_solver_of_ones_own_leaves_networks_without_feedback_exact(tiny):
    """Which need as many passes as there are layers, and no more."""

    class Damped(_Step):
        def __init__(self, settings):
            self.order = settings.order

        def step(self, dynamics, state, count):
            moved = dynamics.move(state, dynamics.layers, count, 0)
            return jax.tree.map(lambda u, v: (u + v) / 2, state, moved)

    hepcli.register_solver("damped")(Damped)
    scores = []
    for solver in ("damped", "alternating"):
        own = {"gradient.method": "feedforward", "relaxation.solver": solver}
        model = hepcli.init_model("quickstart", tiny | own)
        scores.append(model.states(model.split("test").images[:8]).scores)
    assert np.allclose(*scores)


def test_an_estimator_without_a_record_says_so(tiny):
    """Else metrics.jsonl would have a residual of 1, and nothing settled."""
    own = tiny | {"gradient.method": "own"}
    hepcli.register_estimator("own")(lambda free: (free.phase.state, None))
    with pytest.raises(CodeError, match="returned no record of its nudged phases") as error:
        _signal(hepcli.init_model("quickstart", own))
    assert "has_nudged_record=False" in error.value.advice
    hepcli.register_estimator("own", has_nudged_record=False)(lambda free: (free.phase.state, None))
    assert _signal(hepcli.init_model("quickstart", own)).nudged is None


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda e: e._replace(gradient_sum={"in-l1": e.gradient_sum["in-l1"]}), "returned a gradient of"),
        (lambda e: e._replace(gradient_sum=jax.tree.map(lambda g: g[..., :1], e.gradient_sum)), "a gradient"),
        (lambda e: e._replace(gradient_sum=jax.tree.map(lambda g: g + 0j, e.gradient_sum)), "complex64"),
        (
            lambda e: e._replace(nudged=e.nudged._replace(settled=e.nudged.settled[None])),
            "a record of shapes",
        ),
        (tuple, "must return a hepcli.engine.Estimate"),
    ],
)
def test_a_whole_estimator_returns_an_estimate_of_the_network(tiny, broken, message):
    """What has other shapes would be broadcast: learning from wrong numbers without a word."""
    jax.clear_caches()  # of other tests' parts of this name
    whole = Estimator(lambda problem: broken(ESTIMATORS["hep"].estimate(problem)))
    hepcli.register_estimator("own")(whole)
    with pytest.raises(CodeError, match=message):
        _signal(hepcli.init_model("quickstart", tiny | {"gradient.method": "own"}))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda signal, phase: (signal, phase), "a record that is a Phase, not a PhaseReport"),
        (
            lambda signal, phase: (jax.tree.map(lambda e: e.astype(jnp.int8), signal), report(phase)),
            "real, of floats",
        ),
    ],
)
def test_a_signal_of_ones_own_is_of_floats_with_a_record_of_each_example(tiny, broken, message):
    jax.clear_caches()  # of other tests' parts of this name

    def own(free):
        phase = nudged_phases(free)(jnp.array([0.5]))
        return broken({name: r[0] for name, r in activities(free.problem, phase.state).items()}, phase)

    hepcli.register_estimator("own")(own)
    with pytest.raises(CodeError, match=message):
        _signal(hepcli.init_model("quickstart", tiny | {"gradient.method": "own"}))


def test_rules_that_clamp_the_output_learn_from_the_squared_error_alone(tiny):
    def weights(targets):
        return 1 + targets[..., :1]

    own = Loss(
        lambda output, targets: jnp.sum(weights(targets) * (output - targets) ** 2, -1) / 2,
        lambda output, targets: weights(targets) * (output - targets),
    )
    hepcli.register_loss("weighted", own)
    settings = {"network.loss": "weighted", "network.readout": False, "gradient.method": "coupled_learning"}
    with pytest.raises(ConfigError, match='"weighted": coupled_learning clamps'):
        hepcli.init_model("quickstart", tiny | settings)


def test_a_layer_kind_that_is_not_holomorphic_takes_real_nudges_only(mine, tiny):
    model = hepcli.init_model("quickstart", mine(lambda r: r.real * jnp.abs(r), is_linear=False))
    assert config_hash(model.config) != config_hash(hepcli.init_model("quickstart", tiny).config)
    assert model.network.real_only == ("mine",)
    _signal(model)
    with pytest.raises(ConfigError, match="mine is not holomorphic, so nudges must be real"):
        _signal(model, {"gradient.num_points": 4})


def test_a_holomorphic_layer_kind_takes_complex_nudges(mine):
    """And the error of finite nudges falls with their number."""
    settled = {"relaxation.free_steps": 200, "relaxation.nudged_steps": 200}
    model = hepcli.init_model("quickstart", mine(jnp.sin, is_linear=False) | settled)
    assert model.network.real_only == ()
    exact = _signal(model, {"gradient.method": "hep_exact"}).error_vector["l1"]
    errors = []
    for points in (2, 4):
        nudges = {"gradient.num_points": points, "gradient.beta_radius": 0.1}
        errors.append(np.abs(_signal(model, nudges).error_vector["l1"] - exact).max())
    assert errors[1] < 0.2 * errors[0]


def test_a_layer_kind_that_drives_with_another_shape_is_refused(tiny):
    dense = LAYER_KINDS["dense"]

    class Mine:
        is_linear, module, down = dense.is_linear, dense.module, dense.down

        def up(self, connection, kernel, below):
            return dense.up(connection, kernel, below).mean(axis=-1, keepdims=True)  # would be broadcast

    @dataclass(frozen=True, kw_only=True)
    class MineLayer(DenseLayer):
        kind: Literal["mine"] = "mine"

    hepcli.register_layer_kind("mine", MineLayer, Mine())
    with pytest.raises(CodeError, match=r"up of connection l1-l2 returned shape .*1\), not .*12\)"):
        hepcli.init_model("quickstart", tiny | {"network.layers.l2.kind": "mine"})


def test_a_loss_must_have_its_derivative(tiny):
    entropy = LOSSES["cross_entropy"]
    hepcli.register_loss("mine", Loss(entropy.value, lambda o, y: 2 * entropy.derivative(o, y)))
    with pytest.raises(CodeError, match=f"{__file__}, line .*: the derivative of loss mine is not"):
        hepcli.init_model("quickstart", tiny | {"network.loss": "mine"})


@pytest.mark.parametrize(
    ("value", "derivative"),
    [
        (lambda o, y: jnp.abs(o - y) ** 2, lambda o, y: 2 * (o - y).real),
        (lambda o, y: jnp.maximum(0, 1 - o * y), lambda o, y: -jnp.where((o * y).real < 1, y, 0) * o**0),
    ],
)
def test_a_loss_that_is_not_holomorphic_takes_real_nudges_only(tiny, value, derivative):
    hepcli.register_loss("mine", Loss(lambda o, y: value(o, y).sum(axis=-1), derivative))
    model = hepcli.init_model("quickstart", tiny | {"network.loss": "mine"})
    assert model.network.real_only == ("mine",)
    with pytest.raises(ConfigError, match="mine is not holomorphic, so nudges must be real"):
        _signal(model, {"gradient.num_points": 4})


@pytest.mark.parametrize("domain", ["scores", "probabilities"])
def test_holomorphic_losses_take_complex_nudges(tiny, domain):
    def value(o, y):
        p = jax.nn.softmax(o) if domain == "scores" else o
        return -(y * jnp.log(p) + (1 - y) * jnp.log(1 - p)).sum(axis=-1)

    def derivative(o, y):
        if domain == "probabilities":
            return (o - y) / (o * (1 - o))
        e = jnp.exp(o)
        p = e / e.sum(axis=-1, keepdims=True)
        by_p = (p - y) / (p * (1 - p))
        return p * (by_p - (p * by_p).sum(axis=-1, keepdims=True))

    hepcli.register_loss("mine", Loss(value, derivative))
    points = {"network.loss": "mine", "gradient.num_points": 4}
    assert hepcli.init_model("quickstart", tiny | points).network.real_only == ()


def test_a_measure_of_another_length_is_refused_before_a_run_trains(tiny, tmp_path):
    hepcli.register_measure("widest")(lambda m: jnp.abs(m.own.phase.state["l1"]).max(axis=0))
    overrides = tiny | {"run.measure_examples": 2}
    with pytest.raises(CodeError, match=r"measure widest returned an array of shape \(16,\)"):
        hepcli.train("quickstart", overrides, tmp_path / "run", epochs=1)
    assert not any((tmp_path / "run").glob("checkpoints/*"))


def test_traits_of_an_estimator_that_has_its_own_are_refused():
    with pytest.raises(CodeError, match="estimator mine: min_points would be ignored"):
        hepcli.register_estimator("mine", min_points=7)(ESTIMATORS["hep"])


def test_an_optimiser_sees_the_weights_that_a_run_starts_from(tiny, tmp_path):
    """One that pulls them back to where they began must not pull them to other random ones."""

    @hepcli.register_optimizer("anchored")
    def anchored(settings, decay):
        pull = lambda updates, anchor, params: (jax.tree.map(jnp.subtract, anchor, params), anchor)  # noqa: E731
        return optax.GradientTransformation(lambda params: params, pull)

    first = hepcli.train("quickstart", tiny, tmp_path / "first", epochs=1).folder
    own = tiny | {"optimizer.name": "anchored"}
    second = hepcli.train("quickstart", own, tmp_path / "second", epochs=1, init_from=first).folder
    before, after = (hepcli.load_run(folder).params for folder in (first, second))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), before, after)


def test_a_file_that_fails_leaves_the_module_of_the_one_before(tmp_path):
    file = tmp_path / "own.py"
    file.write_text("VALUE = 1\n")
    load_code([file])
    file.write_text("VALUE = 2\nraise ValueError\n")
    with pytest.raises(CodeError):
        load_code([file])
    assert sys.modules["hep_code_own"].VALUE == 1


def test_a_tracker_of_ones_own_follows_a_run_that_is_resumed(tiny, tmp_path):
    file = tmp_path / "own.py"
    file.write_text(
        "import hepcli\n"
        "@hepcli.register_tracker('lines')\n"
        "class Lines:\n"
        "    def __init__(self, config, folder, history):\n"
        "        self.file = folder / 'lines.txt'\n"
        "        self.write('begun', len(history), config.run.epochs)\n"
        "    def write(self, *words):\n"
        "        with self.file.open('a') as file:\n"
        "            print(*words, file=file)\n"
        "    def log(self, line):\n"
        "        self.write('epoch', line['epoch'])\n"
        "    def close(self, *, finished):\n"
        "        self.write('over', finished)\n"
    )
    own = tiny | {"run.trackers": ["lines"], "optimizer.schedule": "constant"}
    folder = hepcli.train("quickstart", own, tmp_path / "run", epochs=1, code=[file]).folder
    hepcli.train(out=folder, resume=True, epochs=2)
    lines = (folder / "lines.txt").read_text().splitlines()
    assert lines == ["begun 0 1", "epoch 1", "over True", "begun 1 2", "epoch 2", "over True"]
    hepcli.register_tracker("nothing")(lambda config, folder, history: None)
    with pytest.raises(CodeError, match="tracker nothing: None lacks log"):
        hepcli.train("quickstart", tiny | {"run.trackers": ["nothing"]}, tmp_path / "none", epochs=1)


def test_a_run_is_read_without_the_tracker_that_followed_it(tiny, tmp_path):
    """It was registered in a program that is not this one."""
    hepcli.register_tracker("gone")(lambda config, folder, history: SimpleNamespace(log=print))
    overrides = tiny | {"run.trackers": ["gone"], "optimizer.schedule": "constant"}
    folder = hepcli.train("quickstart", overrides, tmp_path / "run", epochs=1).folder
    del TRACKERS["gone"]
    assert hepcli.evaluate(folder)["examples"] == 1000
    with pytest.warns(hepcli.HepWarning, match="There is no tracker gone here"):
        hepcli.train(out=folder, resume=True, epochs=2)
    with pytest.raises(ConfigError, match=r"run\.trackers\.0 = .gone.: must be one of tensorboard, wandb"):
        hepcli.train("quickstart", overrides, tmp_path / "new", epochs=1)
