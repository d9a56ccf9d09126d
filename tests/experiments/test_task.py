"""Networks for the images of a data set, and what does not fit them."""

import dataclasses
import re

import pytest

from hepcli.config import load_config
from hepcli.errors import ConfigError
from hepcli.experiments.task import Task
from hepcli.settings import DATASETS

COLOUR, GREY = (32, 32, 3), (32, 32, 1)


@pytest.fixture
def built(monkeypatch):
    def build(*overrides, image=COLOUR, preset="cifar10-small"):
        config = load_config(preset, overrides).config
        spec = dataclasses.replace(DATASETS[config.data.name], image_shape=image, num_classes=10)
        monkeypatch.setitem(DATASETS, config.data.name, spec)
        return Task(config)

    return build


@pytest.fixture
def refusal(built):
    def refuse(*overrides, image=COLOUR):
        with pytest.raises(ConfigError) as caught:
            built(*overrides, image=image)
        assert caught.value.advice
        return caught.value.what

    return refuse


def test_shapes_follow_from_the_images(built):
    assert built().network.unit_shapes == {"conv1": (8, 8, 32), "conv2": (4, 4, 64), "out": (1, 1, 128)}
    assert built(image=(48, 48, 3)).network.unit_shapes["out"] == (2, 2, 128)
    assert built(preset="imagenet32").network.unit_shapes["conv3"] == (4, 4, 512)


def test_any_seed_has_devices(built):
    task = built("hardware.weight_bits=4", "run.seed=4294967295")
    params = task.fresh_params()
    read = task.weights_as_read(params, task.config, 7)
    assert not (read["out-conv2"]["kernel"] == params["out-conv2"]["kernel"]).all()


def test_a_dense_layer_on_top(built):
    assert built("network.layers.out={kind='dense', units=20}").network.unit_shapes["out"] == (20,)


def test_an_image_that_the_layers_use_up(refusal):
    text = refusal(image=(8, 8, 3))
    assert text.startswith("network.layers.out: the 1 × 1 image of conv2 shrinks to nothing")


def test_feedback_named_first_takes_nothing_from_an_image(built, refusal):
    connections = '["out-conv2", "conv2-conv1", "in-conv1", "conv1-conv2", "conv2-out"]'
    assert built(f"network.connections={connections}").network.unit_shapes == built().network.unit_shapes
    text = refusal(f"network.connections={connections}", "network.layers.conv1.pool_size=33")
    assert text.startswith("network.layers.conv1: the 32 × 32 image of in shrinks to nothing")


def test_a_kernel_of_which_most_sees_no_image(built, refusal):
    built("network.layers.conv2.kernel_size=17")
    text = refusal("network.layers.conv2.kernel_size=18")
    rule = "is more than twice the size of the 8 × 8 image of conv1; use at most 17"
    assert text == f"network.layers.conv2.kernel_size = 18: {rule}"


def test_images_that_do_not_fit_each_other(refusal):
    connections = '["in-conv1", "conv1-conv2", "conv2-conv1", "conv2-out", "out-conv2", "in-conv2"]'
    assert refusal(f"network.connections={connections}").startswith('network.connections = "in-conv2"')


def test_without_a_readout_the_output_must_be_the_classes(built, refusal):
    overrides = (
        "network.readout=false",
        "network.loss=squared_error",
        "optimizer.learning_rate_multipliers={}",
        "optimizer.weight_decay_multipliers={}",
    )
    assert refusal(*overrides).startswith("network.layers.out.channels = 128: without a readout")
    assert "(512 units)" in refusal(*overrides, image=(48, 48, 3))
    built(*overrides, "network.layers.out.channels=10")


def test_crops_without_a_pixel_of_the_image(built):
    padding = "data.crop_padding=32"
    config = load_config("cifar10-small", [padding]).config
    built(padding, image=(48, 48, 3)).train_step([config])
    grey = built(padding, "data.mean=[0.5]", "data.std=[0.25]", image=GREY)
    with pytest.raises(ConfigError, match=r"data\.crop_padding = 32: .* 32 × 32 pixels"):
        grey.prepare()


def test_rand_augment_needs_grey_or_coloured_images(built):
    settings = ("data.augmentation=rand_augment", "data.mean=[0.5]", "data.std=[0.25]")
    config = load_config("cifar10-small", settings).config
    built(*settings, image=GREY).train_step([config])
    with pytest.raises(ConfigError, match=r"data\.augmentation = rand_augment: .* 4 channels"):
        built(*settings, image=(32, 32, 4)).prepare()


def test_a_mean_for_each_channel_or_one_for_all(built):
    with pytest.raises(ConfigError, match=r"data\.mean .* channels of .* is 1"):
        built(image=GREY)
    built("data.mean=[0.5]", "data.std=[0.25]", image=GREY)


def test_a_step_that_cannot_fit_is_refused_before_it_is_compiled(built, monkeypatch):
    task = built("run.devices=1")
    task.check_memory()
    monkeypatch.setattr("hepcli.experiments.devices.memory_limit", lambda: 30 * 2**20)
    with pytest.raises(ConfigError) as caught:
        task.check_memory()
    assert "a training step needs at least" in caught.value.what
    parts = re.search(r"data\.accumulate=(\d+)", caught.value.advice)[1]
    parted = built("run.devices=1", f"data.accumulate={parts}")
    parted.check_memory()
    needed = 2**24
    monkeypatch.setattr(parted._compiled, "step_bytes", lambda params: needed)
    for runs in (1, 3):  # of as many as there is room for, in 0.9 of the memory
        room = int((runs + 0.5) * 1.45 * needed / 0.9)
        monkeypatch.setattr("hepcli.experiments.devices.memory_limit", lambda: room)  # noqa: B023
        assert parted.runs_that_fit(10) == runs
        assert parted.runs_that_fit(runs) == runs
    monkeypatch.undo()
    assert parted.runs_that_fit(10) == 10
