"""What GPUs multiply is as precise as the configuration says; CPUs show it in the compiled program's text."""

import re

import jax
import numpy as np
import pytest

from hepcli.config import load_config
from hepcli.experiments.task import Task

PRODUCT = re.compile(r"stablehlo\.(?:dot_general|convolution)")


@pytest.mark.parametrize(("name", "expected"), [("float32", "HIGHEST"), ("tensorfloat32", "HIGH")])
@pytest.mark.parametrize("method", ["hep", "hep_exact", "bptt"])
def test_every_product_of_a_step_has_the_precision_of_the_run(name, expected, method):
    """JAX's own default would be tensorfloat32, with which small nudges drown in rounding."""
    overrides = (f"run.matmul_precision={name}", f"gradient.method={method}", "homeostasis.weight=0.1")
    config = load_config("quickstart", (*overrides, "run.devices=1")).config
    task = Task(config)
    batch = next(task.feed("train").batches([np.arange(config.data.batch_size)]))
    step = jax.jit(task.train_step([config]))
    text = step.lower(task.fresh_state(config), *batch).as_text()
    products = [line for line in text.splitlines() if PRODUCT.search(line)]
    assert products
    assert all(f"precision = [{expected}, {expected}]" in line for line in products), products[0]
