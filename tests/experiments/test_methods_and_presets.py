"""Every method and every preset takes steps."""

import json

import jax
import numpy as np
import pytest

from hepcli.config import list_presets, load_config
from hepcli.experiments.task import Task
from hepcli.experiments.train import Finished
from hepcli.settings import ESTIMATORS
from hepcli.training import Layout

from .runs import run

pytestmark = pytest.mark.usefixtures("small_data")
LOSSES = ("cross_entropy", "squared_error")


def methods_and_losses():
    """Each method with a loss that it takes, in turn; hep with both."""
    for place, (method, estimator) in enumerate(ESTIMATORS.items()):
        if estimator.clamps_output:
            yield method, "squared_error"
        elif method == "hep":
            yield from ((method, loss) for loss in LOSSES)
        else:
            yield method, LOSSES[place % 2]


@pytest.mark.parametrize(("method", "loss"), list(methods_and_losses()))
def test_every_method_trains(tmp_path, small, method, loss):
    overrides = (*small, f"gradient.method={method}", f"network.loss={loss}", "gradient.num_points=3")
    overrides += ("gradient.adjoint_steps=6", "gradient.beta_radius=0.1", "gradient.online_cycles=2")
    if loss == "squared_error":
        overrides += ("network.readout=false",)
    run(tmp_path / "run", overrides, epochs=1)
    line = json.loads((tmp_path / "run/metrics.jsonl").read_text())
    assert line["train"]["nonfinite"] == 0
    assert np.isfinite(line["train"]["loss"])
    assert (line["train"]["nudged_log10_residual"] is None) == (method in ("bptt", "feedforward"))


PAPERS_IMAGES = ("cifar10", "cifar100", "imagenet32")
TRACED = (*PAPERS_IMAGES, "cifar10-vgg5", "cifar10-hopfield-resnet13", "cifar10-hopfield-resnet-small")


@pytest.mark.parametrize("preset", [preset.name for preset in list_presets() if preset.name not in TRACED])
def test_every_preset_takes_steps(tmp_path, preset):
    """The convolutional network narrower and with fewer steps than it is."""
    overrides = ["data.batch_size=500"]
    if preset.startswith("cifar10"):
        overrides += [f"network.layers.{name}.channels=4" for name in ("conv1", "conv2", "out")]
        overrides += ["relaxation.free_steps=3", "relaxation.nudged_steps=2", "homeostasis.num_draws=1"]
    records = run(tmp_path / preset, tuple(overrides), preset=preset, epochs=1)
    assert isinstance(records[-1], Finished)


@pytest.mark.parametrize("preset", TRACED)
def test_large_presets_trace_at_full_width(preset):
    """From pixels to updated parameters, without compiling: a run of them is no test."""
    config = load_config(preset).config
    task = Task(config, layout=Layout(jax.local_devices()[:1]))
    state = jax.eval_shape(lambda: task.fresh_state(config))
    batch = next(task.feed("train").batches([np.arange(config.data.batch_size)]))
    after, loss = jax.eval_shape(task.train_step([config]), state, *batch)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )
    assert (loss.shape, loss.dtype) == ((), np.float32)
    if preset in PAPERS_IMAGES:
        shapes = {"conv1": (16, 16, 128), "conv2": (8, 8, 256), "conv3": (4, 4, 512), "out": (1, 1, 512)}
        assert task.network.unit_shapes == shapes
