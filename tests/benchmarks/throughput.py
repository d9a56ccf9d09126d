"""Training throughput of the `fashion-mnist` preset's step, beside METHOD's step written plainly.

Run: python tests/benchmarks/throughput.py            (two minutes on two CPU cores)

Both learn from the same batches in the same process with the same settings: N = 2, |β| = 0.5, 150 free and
20 nudged steps, batch 50, tolerance 0. The plain one is what the mathematics says word for word: a scan of
synchronous steps over all layers, the input drive computed in every step, complex weights and states, and
the N points one after the other. Rounds alternate, and the ratio of each round is taken within it.
"""

import os
import statistics
import time

os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # before JAX is imported: compilation is timed

import jax
import jax.numpy as jnp
import numpy as np

from hepcli.config import load_config
from hepcli.experiments.task import Task
from hepcli.networks import sigmoid
from hepcli.training import init_state

ROUNDS, STEPS = 7, 30


def plain_step(config, network):
    """One training step as METHOD states it."""
    relaxation, gradient, optimizer = config.relaxation, config.gradient, config.optimizer

    def logits(params, state):
        return sigmoid(state["out"]) @ params["readout"]["kernel"] + params["readout"]["bias"]

    def loss(params, state, targets):
        return -jnp.sum(targets * jax.nn.log_softmax(logits(params, state)), axis=-1)

    def step(params, state, inputs, beta, targets):
        activity = {name: sigmoid(u) for name, u in state.items()} | {"in": inputs}
        new = {name: jnp.zeros_like(u) for name, u in state.items()}
        for connection in network.connections:
            pre, post, weights = connection.pre, connection.post, params[connection.name]
            new[post] = new[post] + activity[pre] @ weights["kernel"] + weights.get("bias", 0)
        error = jax.nn.softmax(logits(params, state)) - targets
        new["out"] = new["out"] + beta * (error @ params["readout"]["kernel"].T)
        return new

    def relax(params, state, inputs, beta, targets, steps):
        run = lambda u, _: (step(params, u, inputs, beta, targets), None)  # noqa: E731
        return jax.lax.scan(run, state, length=steps)[0]

    def train_step(params, velocity, inputs, targets):
        cast = jax.tree.map(lambda w: w.astype(jnp.complex64), params)
        zeros = {name: jnp.zeros((len(inputs), *shape), jnp.complex64) for name, shape in network.shapes}
        free = relax(cast, zeros, inputs, 0.0, targets, relaxation.free_steps)
        error_vector = {name: jnp.zeros_like(u) for name, u in free.items()}
        for k in range(gradient.num_points):
            turn = np.exp(2j * np.pi * k / gradient.num_points)
            nudged = relax(cast, free, inputs, gradient.beta_radius * turn, targets, relaxation.nudged_steps)
            factor = 1 / (turn * gradient.num_points * gradient.beta_radius)
            error_vector = {name: e + factor * sigmoid(nudged[name]) for name, e in error_vector.items()}
        free = {name: jnp.real(u) for name, u in free.items()}
        error_vector = {name: jnp.real(e) for name, e in error_vector.items()}

        def field(params):
            return {name: u - free[name] for name, u in step(params, free, inputs, 0.0, targets).items()}

        (grads,) = jax.vjp(field, params)[1](error_vector)
        direct = jax.grad(lambda p: loss(p, free, targets).sum())(params)
        grads = jax.tree.map(lambda a, b: (a + b) / len(inputs), grads, direct)
        velocity = jax.tree.map(lambda v, g: optimizer.momentum * v + g, velocity, grads)
        params = jax.tree.map(lambda p, v: p - optimizer.learning_rate * v, params, velocity)
        return params, velocity

    return jax.jit(train_step)


def main() -> None:
    config = load_config("fashion-mnist", ("data.name=fashion_mnist_mini", "relaxation.tolerance=0.0")).config
    task = Task(config)
    split, network = task.split("train"), task.network
    feed = task.feed("train")
    optimizer = task.optimizer(config)
    ours = task.train_step([config])
    plain = plain_step(config, network)
    batch = config.data.batch_size
    order = np.random.default_rng(0).permutation(len(split.labels)).astype(np.int32)
    chosen = order[: STEPS * batch].reshape(STEPS, batch)
    inputs = [jnp.asarray(split.images[b].reshape(batch, -1), jnp.float32) / 255 for b in chosen]
    targets = [jax.nn.one_hot(split.labels[b], split.num_classes) for b in chosen]
    params = task.fresh_params()

    def run_ours() -> float:
        state = init_state(jax.tree.map(jnp.copy, params), optimizer)
        jax.block_until_ready(state)
        started = time.perf_counter()
        for examples in feed.batches(chosen):
            state, _ = ours(state, *examples)
        jax.block_until_ready(state)
        assert state.totals["examples"] == STEPS * batch
        return STEPS * batch / (time.perf_counter() - started)

    def run_plain() -> float:
        state = params, jax.tree.map(jnp.zeros_like, params)
        started = time.perf_counter()
        for x, y in zip(inputs, targets, strict=True):
            state = plain(*state, x, y)
        jax.block_until_ready(state)
        return STEPS * batch / (time.perf_counter() - started)

    started = time.perf_counter()
    state = init_state(jax.tree.map(jnp.copy, params), optimizer)
    jax.block_until_ready(ours(state, *next(feed.batches(chosen))))
    first_step = time.perf_counter() - started
    print(f"{task.layout.num_devices} device(s); first step, compilation included: {first_step:.2f} s")
    run_plain()
    pairs = [(run_ours(), run_plain()) for _ in range(ROUNDS)]
    for name, rates in zip(("hep", "plain"), zip(*pairs, strict=True), strict=True):
        print(f"{name:>5}: {statistics.median(rates):6.0f} images/s (median of {ROUNDS} rounds)")
    ratios = [a / b for a, b in pairs]
    print(f"ratio: {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
