"""The memory that a program takes, from its trace."""

import jax
import jax.numpy as jnp
import pytest

from hepcli.training import step_bytes
from hepcli.training._footprint import peak_bytes
from tests.training import tiny

MIB = 2**20
X = jax.ShapeDtypeStruct((MIB // 4,), jnp.float32)  # 1 MiB


def chain(x):
    for _ in range(10):
        x = jnp.sin(x)
    return x


def branches(x):
    parts = [jnp.sin(x + number) for number in range(6)]
    return jnp.stack(parts).sum()


def loop(x):
    return jax.lax.fori_loop(0, 10, lambda _, y: y + jnp.tanh(jnp.cos(y) * y), x)


@pytest.mark.parametrize(
    ("act", "least", "most"),
    [
        (chain, 2, 3),
        (branches, 12, 14),
        (loop, 3, 6),
        (jax.jit(chain), 2, 3),
        (jax.grad(lambda x: chain(x).sum()), 10, 14),
    ],
)
def test_what_is_alive_at_once_counts(act, least, most):
    assert least * MIB <= peak_bytes(jax.make_jaxpr(act)(X)) <= most * MIB


def tiny_step(batch, accumulate=1, method="hep", weight=1.0):
    settings = tiny.learning(method, weight=weight)._replace(accumulate=accumulate)
    return step_bytes(tiny.NETWORK, 3, settings, lambda images: images / 255, tiny.params(), (2, 2, 1), batch)


def test_a_step_takes_memory_in_proportion_to_the_examples_it_takes_at_once():
    one, two = tiny_step(4096), tiny_step(8192)
    assert two / one == pytest.approx(2, rel=0.01)
    assert tiny_step(8192, accumulate=4) < 0.5 * two


def test_a_large_step_keeps_neither_all_passes_nor_all_draws(monkeypatch):
    bptt, draws = tiny_step(4096, method="bptt", weight=0.0), tiny_step(4096)
    monkeypatch.setattr("hepcli.engine._solver._MOST_KEPT", 0)
    monkeypatch.setattr("hepcli.engine._homeostasis._MOST_AT_ONCE", 0)
    assert tiny_step(4096, method="bptt", weight=0.0) < 0.7 * bptt
    assert tiny_step(4096) < 1.01 * tiny_step(4096, weight=0.0) < draws
