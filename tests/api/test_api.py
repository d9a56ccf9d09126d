"""The library gives what the commands give, and leaves the program around it as it was."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

import hepcli
from hepcli import HepWarning
from hepcli.errors import CheckpointError, CodeError, ConfigError
from hepcli.experiments.evaluate import evaluate as evaluate_command
from hepcli.experiments.measurement import Measurement
from hepcli.experiments.records import EpochDone, RunStarted
from hepcli.experiments.weights import flat
from hepcli.settings import MEASURES, RESERVED


@pytest.fixture(scope="module")
def run(finished):
    return hepcli.load_run(finished)


def test_it_is_imported_without_anything_heavy():
    code = "import sys, hepcli; sys.exit(', '.join({'jax', 'numpy', 'pydantic'} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_every_public_name_is_there_and_documented():
    for name in hepcli.__all__:
        assert getattr(hepcli, name).__doc__, name
    assert set(hepcli.__all__) <= set(dir(hepcli))
    with pytest.raises(AttributeError, match="nothing"):
        _ = hepcli.nothing


def test_a_run_evaluates_as_the_command_does(run, finished):
    expected, _ = evaluate_command(finished)
    assert hepcli.evaluate(run) == expected
    assert hepcli.evaluate(str(finished)) == expected


def test_states_are_those_of_the_evaluation(run, finished):
    images, labels, *_ = run.split("test")
    states = run.states(images)
    record = json.loads((finished / "metrics.jsonl").read_text().splitlines()[-1])["test"]
    assert states.settled.mean() == pytest.approx(record["settled"])
    assert (states.scores.argmax(axis=1) == labels).mean() == pytest.approx(record["top1"])
    assert isinstance(states.activities["l1"], np.ndarray)
    assert states.pre_activations["l1"].dtype == np.float32


def test_the_best_step_is_that_of_validation(tiny, finished, tmp_path):
    """Without examples held out no step is the best; training from Python reaches the trackers, too."""
    with pytest.raises(hepcli.HepError, match="no best checkpoint"):
        hepcli.load_run(finished, "best")
    overrides = tiny | {"data.validation_examples": 100, "run.trackers": ["tensorboard"]}
    done = hepcli.train("quickstart", overrides, tmp_path / "run", epochs=1)
    assert hepcli.load_run(done.folder, "best").step == done.summary["selection"]["step"]
    assert list((done.folder / "tensorboard").glob("events.*"))


def test_other_parameters(run):
    images = run.split("test").images
    zero = run.with_params(jax.tree.map(np.zeros_like, run.params))
    assert not zero.states(images[:5]).scores.any()
    assert hepcli.evaluate(zero)["loss"] == pytest.approx(np.log(10), rel=1e-4)
    mine = {name: dict(own) for name, own in run.params.items()}
    own = run.with_params(mine)
    mine["in-l1"]["kernel"] = mine["in-l1"]["kernel"] * 0  # theirs, not ours
    np.testing.assert_array_equal(own.params["in-l1"]["kernel"], run.params["in-l1"]["kernel"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda kernel: None, "l1-l2.kernel is missing"),
        (lambda kernel: kernel.T, r"l1-l2.kernel has shape \[12, 16\], not \[16, 12\]; .* may be transposed"),
        (lambda kernel: kernel.astype(complex), "l1-l2.kernel is complex128, not floating-point"),
        (lambda kernel: kernel.astype(int), "l1-l2.kernel is int64, not floating-point"),
        (lambda kernel: kernel * np.nan, "l1-l2.kernel is not finite"),
    ],
)
def test_parameters_that_do_not_fit_are_named(run, change, says):
    params = {name: dict(own) for name, own in run.params.items()}
    params["l1-l2"]["kernel"] = change(np.asarray(params["l1-l2"]["kernel"]))
    with pytest.raises(ValueError, match=says):
        run.with_params(params)
    with pytest.raises(ValueError, match=r"extra\.kernel is not a parameter of this network"):
        run.with_params({**run.params, "extra": {"kernel": np.ones(3)}})


def test_the_gradient_is_that_of_the_loss(run):
    """One step along it lowers the loss of the batch, by as much as its square says."""
    images, labels, *_ = run.split("train")
    images, labels = images[:64], labels[:64]
    patient = {"relaxation.free_steps": 300, "relaxation.nudged_steps": 100}
    gradient = hepcli.estimate(run, images, labels, "bptt", patient).gradient
    size = sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(gradient))

    def loss(rate):
        moved = run.with_params(jax.tree.map(lambda p, g: p - rate * g, run.params, gradient))
        scores = np.float64(moved.states(images).scores)
        return np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(64), labels])

    rate = 0.01
    assert (loss(-rate) - loss(rate)) / (2 * rate) == pytest.approx(size, rel=0.1)


def test_measures_are_those_of_the_command(run):
    record = hepcli.measure(run, examples=4)
    assert (record["step"], record["examples"], record["checkpoint"] is not None) == (run.step, 4, True)
    assert record["test_top1"] == run.history[-1]["test"]["top1"]
    with pytest.raises(ConfigError, match="examples = 5000"):
        hepcli.measure(run, examples=5000)


@pytest.mark.parametrize(
    ("name", "value"), [("jax_enable_x64", True), ("jax_default_matmul_precision", "bfloat16")]
)
def test_what_the_program_around_it_set_stays_set_and_changes_nothing(run, name, value):
    images = run.split("test").images[:3]
    before, usual = run.states(images), getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        inside = run.states(images)
        assert getattr(jax.config, name) == value
    finally:
        jax.config.update(name, usual)
    np.testing.assert_array_equal(before.scores, inside.scores)


@pytest.mark.parametrize("command", [hepcli.evaluate, lambda run: hepcli.measure(run, examples=2)])
def test_devices_are_the_same_whatever_the_program_around_draws_with(finished, command):
    run = hepcli.load_run(finished, overrides={"hardware.mismatch_std": 0.5})
    before, usual = command(run), jax.config.jax_default_prng_impl
    exact = command(hepcli.load_run(finished))
    assert before.keys() == exact.keys()
    assert all(before[key] != exact[key] for key in before.keys() & {"loss", "spectral_radius"})
    jax.config.update("jax_default_prng_impl", "rbg")
    try:
        assert command(run) == before
    finally:
        jax.config.update("jax_default_prng_impl", usual)


def test_nothing_is_printed(run, tmp_path, tiny, capfd):
    hepcli.train(run.config, out=tmp_path / "run", stop=lambda: True)
    hepcli.evaluate(run)
    assert capfd.readouterr() == ("", "")


def test_training_goes_on_where_it_was_stopped(run, tmp_path, tiny):
    records = []
    stopped = hepcli.train(
        "quickstart", tiny, tmp_path / "run", epochs=1, on_event=records.append, stop=lambda: True
    )
    assert records[-1] is stopped
    done = hepcli.train(out=tmp_path / "run", resume=True)
    again = hepcli.load_run(done.folder)
    jax.tree.map(np.testing.assert_array_equal, again.params, run.params)


def test_a_configuration_may_be_a_record_or_tables(run, tiny):
    model = hepcli.init_model(run.config)
    assert model.config == run.config
    tables = {"extends": "quickstart", "network": {"initial_angle_deg": 30.0}}
    assert hepcli.init_model(tables, tiny).config.network.initial_angle_deg == 30.0
    assert hepcli.init_model("quickstart", {"run.seed": np.int64(3)}).config.run.seed == 3
    assert hepcli.init_model("quickstart", ["run.seed=3"]).config.run.seed == 3


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((3, 28, 28), np.float32), np.zeros(3, int), "must be uint8"),
        (np.zeros((3, 27, 28, 1), np.uint8), np.zeros(3, int), r"\(batch, 28, 28, 1\)"),
        (np.zeros((0, 28, 28), np.uint8), np.zeros(0, int), "must be uint8"),
        (np.zeros((3, 28, 28), np.uint8), np.zeros(2, int), "one for each image"),
        (np.zeros((3, 28, 28), np.uint8), np.zeros(3), "one for each image"),
        (np.zeros((3, 28, 28), np.uint8), np.array([0, 1, 10]), r"label 10 is outside 0 … 9"),
    ],
)
def test_arrays_that_are_none_are_named(run, images, labels, message):
    with pytest.raises(ValueError, match=message):
        hepcli.estimate(run, images, labels)


def test_settings_that_are_none_are_named(run, tmp_path):
    images = np.zeros((1, 28, 28), np.uint8)
    with pytest.raises(ConfigError, match=r"gradient\.method"):
        hepcli.estimate(run, images, [0], "backprop")
    with pytest.raises(ConfigError, match="overrides"):
        hepcli.init_model("quickstart", "run.seed=3")
    with pytest.raises(ConfigError, match="twice"):
        hepcli.train("quickstart", {"run.seed": 1}, tmp_path / "run", seed=1)
    with pytest.raises(CheckpointError, match="does not exist"):
        hepcli.load_run(tmp_path / "nowhere")


@pytest.mark.parametrize("method", ["hep", "hep_exact"])
def test_a_tied_network_learns_as_an_untied_pair_with_equal_updates(tiny, method):
    """Kolen & Pollack: a pair that starts equal and takes each step together stays one kernel, tied."""
    tied = hepcli.init_model("quickstart", tiny | {"network.tied": True})
    apart = hepcli.init_model("quickstart", tiny)
    pairs = {"l2-l1": "l1-l2", "out-l2": "l2-out"}
    mirrored = {back: {"kernel": tied.params[forth]["kernel"].T} for back, forth in pairs.items()}
    apart = apart.with_params(
        {name: dict(own) for name, own in apart.params.items()} | tied.params | mirrored
    )
    images, labels, *_ = tied.split("train")
    for step in range(5):
        rows = slice(20 * step, 20 * step + 20)
        ours, theirs = (
            hepcli.estimate(model, images[rows], labels[rows].astype(np.int32), method).gradient
            for model in (tied, apart)
        )
        tied = tied.with_params(jax.tree.map(lambda w, g: w - 0.5 * g, dict(tied.params), dict(ours)))
        total = {forth: theirs[forth]["kernel"] + theirs[back]["kernel"].T for back, forth in pairs.items()}
        for back, forth in pairs.items():
            theirs[forth]["kernel"], theirs[back]["kernel"] = total[forth], total[forth].T
        apart = apart.with_params(jax.tree.map(lambda w, g: w - 0.5 * g, dict(apart.params), dict(theirs)))
    for back, forth in pairs.items():
        for kernel in (apart.params[forth]["kernel"], apart.params[back]["kernel"].T):
            np.testing.assert_allclose(kernel, tied.params[forth]["kernel"], rtol=0, atol=2e-5)


def test_a_random_sign_is_drawn(run):
    images, labels, *_ = run.split("train")
    overrides = {"gradient.beta_sign": "random", "gradient.num_points": 1}
    signal = hepcli.estimate(run, images[:4], labels[:4], "hep", overrides).error_vector
    either = [
        hepcli.estimate(run, images[:4], labels[:4], "hep", {"gradient.num_points": 1}).error_vector,
        hepcli.estimate(run, images[:4], labels[:4], "hep", {"gradient.num_points": 2}).error_vector,
    ]
    positive, centred = either
    negative = {name: 2 * centred[name] - positive[name] for name in centred}
    distance = [np.abs(one["l1"] - signal["l1"]).max() for one in (positive, negative)]
    assert min(distance) < 1e-4 * np.abs(signal["l1"]).max()


BLOCKS = {
    "jax_enable_x64": lambda: jax.enable_x64(True),
    "jax_default_matmul_precision": lambda: jax.default_matmul_precision("bfloat16"),
    "jax_disable_jit": jax.disable_jit,
}


@pytest.mark.parametrize("name", BLOCKS)
def test_settings_of_a_block_of_the_program_around_end_with_it(run, name):
    images, usual = run.split("test").images[:3], getattr(jax.config, name)
    before = run.states(images)
    with BLOCKS[name]():
        inside = run.states(images)
        hepcli.load_run(run.folder)
        assert getattr(jax.config, name) != usual
    np.testing.assert_array_equal(before.scores, inside.scores)
    assert getattr(jax.config, name) == usual


def test_overrides_that_an_estimate_would_ignore_are_refused(run):
    images, labels, *_ = run.split("train")
    with pytest.raises(ConfigError, match=r"hardware\.weight_bits: an estimate can change only"):
        hepcli.estimate(run, images[:4], labels[:4], overrides={"hardware.weight_bits": 4})


def test_an_estimate_needs_no_settings_of_training_that_its_method_does_not_allow(tiny):
    trained = {"homeostasis.weight": 1.0, "relaxation.persistent_state": True}
    sign = {"gradient.num_points": 1, "gradient.beta_sign": "random"}
    model = hepcli.init_model("quickstart", tiny | trained | sign)
    images, labels, *_ = model.split("train")
    for method in ("feedforward", "rbp", "dyadic_ep"):
        assert hepcli.estimate(model, images[:4], labels[:4], method).error_vector
    assert hepcli.estimate(model, images[:4], labels[:4], overrides=["gradient.method=rbp"]).error_vector
    with pytest.raises(ConfigError, match="an estimate can change only settings of"):
        hepcli.estimate(model, images[:4], labels[:4], "rbp", {"homeostasis.weight": 1.0})


def test_an_estimate_takes_no_precision_that_a_run_may_not_have(tiny):
    """With one nudge the rounding of a free phase in half precision would be divided by |β|."""
    half = {"relaxation.free_precision": "bfloat16", "gradient.num_points": 2}
    model = hepcli.init_model("quickstart", tiny | half)
    images, labels, *_ = model.split("train")
    assert hepcli.estimate(model, images[:4], labels[:4]).error_vector
    with pytest.raises(ConfigError, match="hep subtracts the state of the free phase"):
        hepcli.estimate(model, images[:4], labels[:4], overrides={"gradient.num_points": 1})


def test_an_estimate_without_feedback(run):
    images, labels, *_ = run.split("train")
    found = hepcli.estimate(run, images[:4], labels[:4], "feedforward")
    assert not np.any(found.gradient["out-l2"]["kernel"])
    assert np.any(found.gradient["l2-out"]["kernel"])


@pytest.mark.parametrize("name", ["step", "cosine", "converged"])
def test_keys_of_records_are_no_names_of_measures(name):
    with pytest.raises(CodeError, match="is a key of the records already"):
        hepcli.register_measure(name)


def test_every_key_of_a_record_is_reserved_or_a_measure(finished):
    record = hepcli.measure(finished, 2)
    assert record.keys() <= RESERVED | MEASURES.keys()
    for register in (hepcli.register_activation, hepcli.register_solver):
        with pytest.raises(CodeError, match='"same": settings use'):
            register("same")


def test_other_parameters_and_settings_have_no_recorded_accuracy(finished):
    run = hepcli.load_run(finished)
    assert hepcli.measure(run, 2)["test_top1"] == run.history[-1]["test"]["top1"]
    zero = run.with_params(jax.tree.map(np.zeros_like, run.params))
    record = hepcli.measure(zero, 2)
    assert (record["test_top1"], record["checkpoint"]) == (None, None)
    assert hepcli.evaluate(zero)["checkpoint"] is None
    fewer = hepcli.load_run(finished, overrides={"relaxation.free_steps": 3})
    record = hepcli.measure(fewer, 2)
    assert record["test_top1"] is None
    assert record["checkpoint"].endswith(f"checkpoints/{run.step}")
    nudged = hepcli.load_run(finished, overrides={"gradient.beta_radius": 0.1})
    assert hepcli.measure(nudged, 2)["test_top1"] is not None


@pytest.mark.parametrize("split", ["valid", "Test", ""])
def test_splits_that_do_not_exist(finished, split):
    with pytest.raises(ConfigError, match="is not a choice of examples"):
        hepcli.evaluate(finished, split)
    with pytest.raises(ConfigError, match="is not a choice"):
        hepcli.measure(finished, 2, split)


@pytest.mark.parametrize("overrides", [{"gradient.nonsense": None}, {"run.seed": None}, {1: 2}])
def test_overrides_that_set_nothing(overrides):
    with pytest.raises(ConfigError, match="sets nothing"):
        hepcli.init_model("quickstart", overrides)


def test_overrides_of_any_kind_count():
    texts = (text for text in ["network.layers.l1.units=5"])
    assert dict(hepcli.init_model("quickstart", texts).network.shapes)["l1"] == (5,)
    layers = {"l1": {"units": np.int64(6)}, "l2": {"units": 3}, "out": {"units": np.int32(10)}}
    assert dict(hepcli.init_model("quickstart", {"network.layers": layers}).network.shapes)["l1"] == (6,)


def test_a_model_without_feedback_estimates_nothing_that_needs_it(tiny):
    model = hepcli.init_model("quickstart", tiny | {"gradient.method": "feedforward"})
    images, labels, *_ = model.split("test")
    with pytest.raises(ConfigError, match="this model has no feedback"):
        hepcli.estimate(model, images[:2], labels[:2], "hep")
    assert hepcli.estimate(model, images[:2], labels[:2], "predictive_coding").error_vector
    with pytest.raises(ConfigError, match="given twice"):
        hepcli.estimate(model, images[:2], labels[:2], "feedforward", {"gradient.method": "hep"})


def test_what_a_callback_loads_is_not_trained_with(tiny, tmp_path):
    code = []
    for factor in (1, 3):
        (tmp_path / str(factor)).mkdir()
        code.append(tmp_path / str(factor) / "own_scale.py")
        code[-1].write_text(
            f'import hepcli\nhepcli.register_activation("own_scale")(lambda z: {factor} * z / (1 + z * z))\n'
        )
    own = tiny | {"network.activation": "own_scale"}

    def load_the_other(event):
        if isinstance(event, RunStarted):
            hepcli.init_model("quickstart", own, code=code[1])

    plain = hepcli.train("quickstart", own, tmp_path / "a", epochs=1, code=code[0])
    disturbed = hepcli.train(
        "quickstart", own, tmp_path / "b", epochs=1, code=code[0], on_event=load_the_other
    )
    assert disturbed.summary["test"] == plain.summary["test"]


def test_what_matters_in_training_alone_cannot_be_changed_afterwards(tiny, finished):
    """Figures would be labelled with it."""
    ours = {
        "network.initial_angle_deg": 45.0,
        "homeostasis.weight": 0.5,
        "run.epochs": 9,
        "data.batch_size": 7,
    }
    ours |= {"optimizer.learning_rate_multipliers.readout": 0.5, "checkpoints.keep_latest": 9}
    for key, value in ours.items():
        with pytest.raises(ConfigError, match=f"{key} = .*: it matters only in training"):
            hepcli.load_run(finished, overrides={key: value})


def test_numbers_of_numpy_are_numbers(tiny, tmp_path):
    done = hepcli.train("quickstart", tiny, tmp_path / "run", epochs=np.int64(1), seed=np.int64(3))
    assert hepcli.load_run(done.folder).config.run.seed == 3


def test_arguments_that_are_none_are_named(run, finished):
    with pytest.raises(ConfigError, match="examples = 'train': must be a whole number"):
        hepcli.measure(run, "train")
    assert type(hepcli.measure(run, np.int64(2))["examples"]) is int
    images, labels, *_ = run.split("test")
    found = hepcli.estimate(finished, images[:2], labels[:2])  # the path of a run
    assert all(type(own) is np.ndarray for own in jax.tree.leaves((found.gradient, found.error_vector)))


def test_devices_are_read_as_in_a_run_whatever_is_set(finished):
    run = hepcli.load_run(finished, overrides={"hardware.mismatch_std": 0.5})
    before = jax.device_get(run.weights_as_read)
    jax.config.update("jax_threefry_partitionable", False)
    try:
        after = jax.device_get(run.weights_as_read)
        assert not jax.config.jax_threefry_partitionable
    finally:
        jax.config.update("jax_threefry_partitionable", True)
    jax.tree.map(np.testing.assert_array_equal, before, after)


def test_warnings_are_those_of_the_line_that_called(finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    newest = max((copy / "checkpoints").glob("[0-9]*"), key=lambda step: int(step.name))
    (newest / "manifest.json").write_text("{}")
    for call in (hepcli.load_run, hepcli.evaluate, lambda path: hepcli.measure(path, 2)):
        with pytest.warns(HepWarning) as caught:
            call(copy)
        assert {own.filename for own in caught} == {__file__}


def test_the_best_step_of_a_step_is_refused(finished):
    step = max((finished / "checkpoints").glob("[0-9]*"), key=lambda step: int(step.name))
    with pytest.raises(ConfigError, match=r"is step \d+, but the best one was requested"):
        hepcli.load_run(step, step="best")


def test_a_network_with_weights_from_elsewhere(run, finished, tiny, tmp_path):
    arrays = flat(run.params)
    np.savez(tmp_path / "weights.npz", **arrays)
    for source in (tmp_path / "weights.npz", finished):
        model = hepcli.init_model("quickstart", tiny, init_from=source)
        jax.tree.map(np.testing.assert_array_equal, dict(model.params), dict(run.params))
    np.savez(tmp_path / "part.npz", **{"in-l1.kernel": arrays["in-l1.kernel"], "else": np.ones(2)})
    with pytest.warns(HepWarning) as caught:
        part = hepcli.init_model("quickstart", tiny, init_from=tmp_path / "part.npz")
    np.testing.assert_array_equal(part.params["in-l1"]["kernel"], run.params["in-l1"]["kernel"])
    assert "are not used: else" in str(caught[1].message)


def test_a_callback_reads_the_epoch_that_is_over(tiny, tmp_path):
    """Its checkpoint is written in the background."""
    steps = []

    def look(event):
        if isinstance(event, EpochDone):
            steps.append(hepcli.load_run(tmp_path / "run").step)

    hepcli.train("quickstart", tiny, tmp_path / "run", epochs=3, on_event=look)
    assert steps == [10, 20, 30]


def test_splits_are_those_of_the_evaluation(tiny, tmp_path):
    overrides = tiny | {"data.validation_examples": 100}
    folder = hepcli.train("quickstart", overrides, tmp_path / "run", epochs=1).folder
    run = hepcli.load_run(folder)
    for name in ("train", "validation"):
        split, record = run.split(name), hepcli.evaluate(run, name)
        assert len(split.labels) == record["examples"]
        right = (run.states(split.images[:1000]).scores.argmax(axis=1) == split.labels[:1000]).mean()
        assert name == "train" or right == pytest.approx(record["top1"])
        images, labels = Measurement(run._task, name, 4)._meter._rows(np.arange(4))
        np.testing.assert_array_equal(images, split.images[:4])
        np.testing.assert_array_equal(labels, split.labels[:4])
    with pytest.raises(ConfigError, match="has 100 examples"):
        hepcli.measure(run, 101, "validation")
    assert not run.split("validation").images.flags.writeable
    with pytest.raises(ConfigError, match="no validation examples"):
        hepcli.init_model("quickstart", tiny).split("validation")


def test_a_model_in_place_of_a_preset_or_a_path_is_named(run, tmp_path):
    with pytest.raises(ConfigError, match="a Run is not a preset"):
        hepcli.train(run, out=tmp_path / "run")
    for start in (hepcli.init_model, hepcli.train):
        with pytest.raises(ConfigError, match="init_from is a Run"):
            start("quickstart", init_from=run)
        with pytest.raises(ConfigError, match="init_from is empty"):
            start("quickstart", init_from="")
