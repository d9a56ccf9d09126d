"""What GPUs multiply is as precise as the configuration says; CPUs show it in the compiled program's text."""

import re

import jax
import numpy as np
import pytest

from hepcli.config import load_config
from hepcli.experiments.task import Task

PRODUCT = re.compile(r"stablehlo\.(?:dot_general|convolution)")
NUDGED = re.compile(r"tensor<(?:100|40|13)x")  # both nudges of a batch of 50, and what is left of them


def products_of_a_step(method, precision, *others):
    overrides = (f"run.matmul_precision={precision}", f"gradient.method={method}", *others)
    config = load_config("quickstart", (*overrides, "run.devices=1")).config
    task = Task(config)
    batch = next(task.feed("train").batches([np.arange(config.data.batch_size)]))
    step = jax.jit(task.train_step([config]))
    text = step.lower(task.fresh_state(config), *batch).as_text()
    return [line for line in text.splitlines() if PRODUCT.search(line)]


@pytest.mark.parametrize(("name", "expected"), [("float32", "HIGHEST"), ("tensorfloat32", "HIGH")])
@pytest.mark.parametrize("method", ["hep", "hep_exact", "bptt"])
def test_every_product_of_a_step_has_the_precision_of_the_run(name, expected, method):
    """JAX's own default would be tensorfloat32, with which small nudges drown in rounding."""
    products = products_of_a_step(method, name, "homeostasis.weight=0.1")
    nudged = [line for line in products if NUDGED.search(line)]
    assert len(nudged) > 0 if method == "hep" else not nudged
    others = [line for line in products if line not in nudged]
    assert others
    assert all(f"precision = [{expected}, {expected}]" in line for line in others), others[0]
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in nudged), nudged[0]


@pytest.mark.parametrize("method", ["hep", "contrastive_ep"])
def test_where_the_free_state_is_subtracted_it_is_as_precise_as_the_nudged_one(method):
    products = products_of_a_step(method, "tensorfloat32", "gradient.num_points=1")
    steps = [line for line in products if "tensor<50x256xf32>, tensor<256x256xf32>" in line]
    assert steps
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in steps), steps[0]
