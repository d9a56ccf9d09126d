"""Mistakes that authors of components make are named before they cost a run; records stay what they are."""

import json
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hepcli
from hepcli import code
from hepcli.engine import random_keys
from hepcli.errors import CodeError, ConfigError, DatasetError
from hepcli.settings import ACTIVATIONS, ESTIMATORS, LAYER_KINDS, DenseLayer

SCALE = 1.0
DENSE = LAYER_KINDS["dense"]


def test_a_global_number_counts_as_it_is_when_a_model_is_made(tiny, monkeypatch):
    hepcli.register_activation("scaled")(lambda z: SCALE * jnp.tanh(z + 1))
    largest = []
    for scale in (1.0, 0.1):
        monkeypatch.setitem(globals(), "SCALE", scale)
        model = hepcli.init_model("quickstart", tiny | {"network.activation": "scaled"})
        largest.append(np.abs(model.states(model.split("test").images[:3]).activities["l1"]).max())
    assert largest[1] < 0.2 * largest[0]


@pytest.mark.parametrize("register", [name for name in hepcli.__all__ if name.startswith("register_")])
def test_what_is_registered_needs_a_name(register):
    arguments = {"register_loss": (None,), "register_layer_kind": (None, None)}.get(register, ())
    with pytest.raises(CodeError, match=f"{register} needs a name first"):
        getattr(hepcli, register)(lambda z: z, *arguments)


def test_whole_optimisers_would_climb(tiny, tmp_path):
    hepcli.register_optimizer("whole")(lambda settings, decay: optax.adam(settings.learning_rate))
    with pytest.raises(CodeError, match="optimiser whole makes updates against the gradient"):
        hepcli.train("quickstart", tiny | {"optimizer.name": "whole"}, tmp_path / "run", epochs=1)
    assert not (tmp_path / "run").exists()
    hepcli.register_optimizer("direction")(lambda settings, decay: optax.chain(optax.scale_by_adam(), decay))
    hepcli.train(
        "quickstart", tiny | {"optimizer.name": "direction"}, stop=lambda: True, out=tmp_path / "run"
    )


def test_an_optimiser_that_wants_more_than_it_is_given_is_named(tiny, tmp_path):
    hepcli.register_optimizer("plateau")(lambda settings, decay: optax.contrib.reduce_on_plateau())
    with pytest.raises(CodeError, match=r"optimiser plateau.*missing 1 required keyword-only argument"):
        hepcli.train("quickstart", tiny | {"optimizer.name": "plateau"}, tmp_path / "run", epochs=1)


def test_a_tracker_cannot_change_the_records_of_a_run(tiny, tmp_path):
    @hepcli.register_tracker("careless")
    class Careless:
        def __init__(self, config, folder, history):
            history.clear()

        def log(self, line):
            line["test"] = line.pop("train")["loss"]

    overrides = tiny | {"run.trackers": ["careless"], "optimizer.schedule": "constant"}
    hepcli.train("quickstart", overrides, tmp_path / "run", epochs=1)
    hepcli.train(out=tmp_path / "run", resume=True, epochs=2)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert hepcli.load_run(tmp_path / "run").history == lines
    assert json.loads((tmp_path / "run/summary.json").read_text())["test"] == lines[-1]["test"]


def test_activations_keep_the_type_that_they_are_given(tiny):
    """Training is in float32, measures are in float64, and free phases may be in less."""
    own = tiny | {"network.activation": "own"}
    types = lambda z: jnp.complex64 if jnp.iscomplexobj(z) else jnp.float32  # noqa: E731
    hepcli.register_activation("own")(lambda z: jnp.tanh(z).astype(types(z)))
    with pytest.raises(CodeError, match=r"activation own returns float32\[2,3\] for float64\[2,3\]"):
        hepcli.init_model("quickstart", own)
    hepcli.register_activation("own")(lambda z: np.float64(1.7) * jnp.tanh(z))
    assert hepcli.init_model("quickstart", own)
    with pytest.raises(CodeError, match=r"float32\[2,3\] for bfloat16\[2,3\]"):
        hepcli.init_model("quickstart", own | {"relaxation.free_precision": "bfloat16"})


@dataclass(frozen=True, kw_only=True)
class OwnLayer(DenseLayer):
    kind: str = "own"
    weights: tuple | list = ()


class OwnKind:
    is_linear, module, up, down = DENSE.is_linear, DENSE.module, DENSE.up, DENSE.down


def kind_with(**methods):
    return type("Kind", (OwnKind,), methods)()


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        (OwnLayer, OwnKind, "must be an object"),
        (OwnLayer(units=3), OwnKind(), "must be a class, not OwnLayer"),
        (OwnLayer, kind_with(up=lambda self, kernel: kernel), "up of layer kind own is called with"),
        (
            OwnLayer,
            kind_with(module=lambda self, connection: None),
            "module of connection in-l1 returned None",
        ),
    ],
)
def test_layer_kinds_that_cannot_be_are_refused(tiny, settings, kind, message):
    def register_and_use():
        hepcli.register_layer_kind("own", settings, kind)
        hepcli.init_model("quickstart", tiny | {"network.layers.l1.kind": "own"})

    with pytest.raises(CodeError, match=message):
        register_and_use()


def test_settings_of_a_layer_that_are_lists_are_named(tiny):
    hepcli.register_layer_kind("own", OwnLayer, OwnKind())
    own = {"network.layers.l1.kind": "own", "network.layers.l1.weights": [1, 2]}
    with pytest.raises(CodeError, match=r"settings of connection in-l1 are not hashable.*list"):
        hepcli.init_model("quickstart", tiny | own)


@pytest.mark.parametrize(
    "traits",
    [
        {"min_points": "2"},
        {"limit": "bptt"},
        {"signal_flow": "up"},
        {"uses_circle": 1},
        {"options": {"rate": [1]}},
    ],
)
def test_traits_have_their_types(traits):
    (name,) = traits
    with pytest.raises(CodeError, match=f"estimator own: {name} = "):
        hepcli.register_estimator("own", **traits)(lambda free: None)


def test_the_signal_of_a_whole_estimator_is_checked_too(tiny):
    hepcli.register_estimator("own")(replace(ESTIMATORS["hep"], error_signal=lambda free: ({"l1": 1}, None)))
    with pytest.raises(CodeError, match="estimator own returned shapes"):
        hepcli.measure(hepcli.init_model("quickstart", tiny | {"gradient.method": "own"}), 2)


def test_measures_and_their_formats_are_those_of_numbers(tiny):
    with pytest.raises(CodeError, match=r"pattern = '%\.2f' is no format"):
        hepcli.register_measure("own", pattern="%.2f")
    hepcli.register_measure("own")(lambda measured: list(measured.own.phase.residual))
    with pytest.raises(CodeError, match="measure own returned a list"):
        hepcli.measure(hepcli.init_model("quickstart", tiny), 2)


@pytest.mark.parametrize("count", [None, 1.5, -1])
def test_a_solver_takes_a_whole_number_of_passes(tiny, count):
    class Solver:
        memory = 0

        def __init__(self, settings):
            self.order = settings.order

        def num_passes(self, dynamics, steps):
            return count

        def step(self, dynamics, state, number):
            return dynamics.move(state, dynamics.layers, number, 0)

    hepcli.register_solver("own")(Solver)
    model = hepcli.init_model("quickstart", tiny | {"relaxation.solver": "own"})
    with pytest.raises(CodeError, match="solver own: num_passes is"):
        model.states(model.split("test").images[:2])


def test_images_of_different_sizes_are_refused(tiny):
    images = [np.zeros((3, 3), np.uint8), np.zeros((3, 4), np.uint8)]
    hepcli.register_dataset("own")(lambda split: (images, [0, 1]))
    with pytest.raises(DatasetError, match="train images or labels are no arrays"):
        hepcli.init_model("quickstart", tiny | {"data.name": "own"})


def test_an_estimator_draws_the_same_numbers_however_a_batch_is_divided(tiny, tmp_path):
    @hepcli.register_estimator("own", is_random=True, has_nudged_record=False)
    def own(free):
        draw = jax.vmap(lambda key, u: jax.random.normal(key, u.shape, u.dtype))
        return {name: draw(random_keys(free.problem), u) for name, u in free.phase.state.items()}, None

    losses = {
        (parts, seed): hepcli.train(
            "quickstart",
            tiny | {"gradient.method": "own", "data.accumulate": parts, "run.seed": seed},
            tmp_path / f"{parts}-{seed}",
            epochs=1,
        ).summary["train"]["loss"]
        for parts, seed in ((1, 0), (5, 0))
    }
    assert losses[1, 0] == pytest.approx(losses[5, 0], rel=1e-5)
    hepcli.register_estimator("blind", has_nudged_record=False)(own)
    model = hepcli.init_model("quickstart", tiny)
    images, labels, *_ = model.split("train")
    with pytest.raises(ValueError, match="is_random=True"):
        hepcli.estimate(model, images[:2], labels[:2], "blind")


def test_a_copy_of_a_file_that_reads_another_beside_it_says_what_to_do(tiny, tmp_path):
    (tmp_path / "factor.txt").write_text("2")
    (tmp_path / "mine.py").write_text(
        "import hepcli, pathlib\n"
        "@hepcli.register_activation('mine')\n"
        "def mine(z):\n"
        "    return float((pathlib.Path(__file__).parent / 'factor.txt').read_text()) * z / (1 + z * z)\n"
    )
    own = tiny | {"network.activation": "mine"}
    out = hepcli.train("quickstart", own, tmp_path / "run", epochs=1, code=[tmp_path / "mine.py"]).folder
    code._loaded.clear()
    del ACTIVATIONS["mine"]
    with pytest.raises(FileNotFoundError) as error:
        hepcli.load_run(out)
    assert "Pass the original with --code" in code.error_in_code(error.value).advice


def test_a_run_with_a_part_from_python_says_that_it_must_be_registered(tiny, tmp_path):
    hepcli.register_activation("mine")(jnp.sin)
    out = hepcli.train("quickstart", tiny | {"network.activation": "mine"}, tmp_path / "run", epochs=1).folder
    del ACTIVATIONS["mine"]
    with pytest.raises(ConfigError) as error:
        hepcli.load_run(out)
    assert "register it first" in error.value.advice
