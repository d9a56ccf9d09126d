"""Small random networks to try the laws on, and a second, naive implementation of their dynamics."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hepcli.engine import Params, Problem, estimate, free_phase
from hepcli.networks import Network
from hepcli.settings import ESTIMATORS, GradientSettings, RelaxationSettings
from tests.dense import dense_network

BATCH, INPUT_SIZE, NUM_CLASSES = 3, 4, 3

LAYERED = "in-l1 l1-l2 l2-l1 l2-out out-l2"
LOOP = "in-l1 l1-l2 l2-out out-l1"
SKIP = "in-l1 in-out l1-l2 l2-l1 l2-out out-l2 l1-out out-l1"
LATERAL = SKIP + " l2-l2 out-out"


class Case(NamedTuple):
    """A network to try a law on."""

    connections: str
    activation: str
    loss: str
    readout: bool
    symmetric: bool
    solver: str
    seed: int


ASYMMETRIC = {
    "layered": Case(LAYERED, "sigmoid", "cross_entropy", True, False, "alternating", 1),
    "lateral": Case(LATERAL, "dsilu", "squared_error", True, False, "synchronous", 2),
    "loop": Case(LOOP, "sigmoid", "squared_error", False, False, "alternating", 3),
    "random": Case("random", "dsilu", "cross_entropy", True, False, "alternating", 4),
}
SYMMETRIC = {
    "layered_symmetric": Case(LAYERED, "dsilu", "squared_error", False, True, "alternating", 5),
    "lateral_symmetric": Case(LATERAL, "sigmoid", "squared_error", True, True, "alternating", 6),
    "random_symmetric": Case("random", "dsilu", "cross_entropy", True, True, "alternating", 8),
}
CASES = ASYMMETRIC | SYMMETRIC


def random_connections(rng, symmetric: bool) -> list[tuple[str, str]]:
    """Any graph of five layers: lateral and skip connections, layers that nothing drives."""
    layers = ("l1", "l2", "l3", "l4", "out")
    chosen = [("in", "l1"), ("in", "l3"), ("l1", "out")]
    chosen += [(a, b) for a in layers for b in layers if rng.random() < 0.25 and (a, b) not in chosen]
    if symmetric:
        chosen += [(b, a) for a, b in chosen if a != "in" and (b, a) not in chosen]
    return list(dict.fromkeys(chosen))


def make_problem(case: Case, method: str = "hep", largest: int = 5, **gradient) -> Problem:
    """A batch on the case's network, as the method takes it, with weights that make the dynamics contract."""
    rng, estimator = np.random.default_rng(case.seed), ESTIMATORS[method]
    if estimator.clamps_output:
        case = case._replace(readout=False, loss="squared_error")
    if case.connections == "random":
        connections = random_connections(rng, case.symmetric)
    else:
        connections = [tuple(name.split("-")) for name in case.connections.split()]
    smallest = max(3, largest // 2)
    sizes = {name: int(rng.integers(smallest, largest + 1)) for name in ("l1", "l2", "l3", "l4")}
    sizes["out"] = 4 if case.readout else NUM_CLASSES
    used = {name for pair in connections for name in pair}
    network = dense_network(
        tuple((name, size) for name, size in sizes.items() if name in used),
        tuple(connections),
        INPUT_SIZE,
        NUM_CLASSES,
        case.activation,
        case.loss,
        case.readout,
    )
    system = network.without_feedback if estimator.is_feedforward else network
    return Problem(
        system,
        random_params(system, rng, case.symmetric),
        jnp.asarray(rng.standard_normal((BATCH, INPUT_SIZE))),
        jnp.eye(NUM_CLASSES)[rng.integers(0, NUM_CLASSES, BATCH)],
        RelaxationSettings(case.solver, free_steps=200, nudged_steps=200),
        GradientSettings(method, **gradient),
    )


def random_params(network: Network, rng, symmetric: bool) -> Params:
    """Normal kernels and biases; a symmetric network's feedback is its forward weights' transpose."""
    sizes = {name: shape[0] for name, shape in network.shapes} | {"in": INPUT_SIZE}
    fan_in = {post: sum(sizes[p] for p, q in network.edges if q == post) for post in network.layers}
    params = {}
    for connection in network.connections:
        if connection.is_tied:
            continue
        pre, post = connection.pre, connection.post
        scale = 1.0 if pre == "in" else 0.5 / np.sqrt(fan_in[post])
        kernel = scale * rng.standard_normal((sizes[pre], sizes[post]))
        if symmetric and pre == post:
            kernel = (kernel + kernel.T) / 2
        elif symmetric and f"{post}-{pre}" in params:
            kernel = np.asarray(params[f"{post}-{pre}"]["kernel"]).T
        params[f"{pre}-{post}"] = {"kernel": jnp.asarray(kernel)}
        if connection.is_forward:
            params[f"{pre}-{post}"]["bias"] = jnp.asarray(0.5 + 0.3 * rng.standard_normal(sizes[post]))
    if network.readout:
        params["readout"] = {
            "kernel": jnp.asarray(rng.standard_normal((sizes["out"], network.num_classes))),
            "bias": jnp.asarray(0.1 * rng.standard_normal(network.num_classes)),
        }
    return params


def of_inputs(function, problem: Problem):
    """`function(problem)` under jit, as a function of the problem's inputs."""

    @jax.jit
    def of_arrays(params, inputs, targets):
        return function(problem._replace(params=params, inputs=inputs, targets=targets))

    return lambda inputs: of_arrays(problem.params, inputs, problem.targets)


def on_arrays(function, problem: Problem):
    """`function(problem)` under jit, with the problem's arrays as its arguments."""
    return of_inputs(function, problem)(problem.inputs)


@functools.cache
def estimates(name: str):
    """What every estimator with a closed-form limit says about a case, compiled once."""
    problem = make_problem(CASES[name])

    def all_methods(problem):
        methods = ("hep_exact", "rbp", "neumann_rbp", "bptt")
        return {m: estimate(problem._replace(gradient=GradientSettings(m))) for m in methods}

    return problem, on_arrays(all_methods, problem)


def assert_slope(problem: Problem, gradient) -> None:
    """The gradient is a central difference of the loss at the fixed point, along a random direction."""
    rng, step = np.random.default_rng(0), 1e-5
    directions = jax.tree.map(lambda w: jnp.asarray(rng.standard_normal(w.shape)), problem.params)

    @jax.jit
    def loss_after(size):
        params = jax.tree.map(lambda w, d: w + size * d, problem.params, directions)
        free = free_phase(problem._replace(params=params))
        out = problem.system.activation("out", free.phase.state["out"])
        return problem.system.loss(params, out, problem.targets).mean()

    slope = (loss_after(step) - loss_after(-step)) / (2 * step)
    along = [np.sum(g * d) for g, d in zip(leaves(gradient), leaves(directions), strict=True)]
    np.testing.assert_allclose(sum(along), slope, rtol=1e-6)


def distance(ours, theirs) -> float:
    """‖a − b‖/‖b‖ over all leaves together."""
    difference = [np.sum(np.abs(a - b) ** 2) for a, b in zip(leaves(ours), leaves(theirs), strict=True)]
    return float(np.sqrt(sum(difference) / sum(np.sum(np.abs(b) ** 2) for b in leaves(theirs))))


def leaves(tree) -> list[np.ndarray]:
    """The arrays of a tree, on the host."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def _naive_logistic(z):
    return 1 / (1 + np.exp(-z))


NAIVE_ACTIVATIONS = {
    "sigmoid": lambda z: 1 / (1 + np.exp(-4 * z + 2)),
    "dsilu": lambda z: z / 2 * _naive_logistic(z) + (1 - z / 2) * _naive_logistic(z - 2),
    "tanh": np.tanh,
    "softplus": lambda z: np.log(1 + np.exp(z)),
    "linear": lambda z: z,
    "hard_sigmoid": lambda z: np.minimum(np.maximum(z, 0.0), 1.0),
    "relu6": lambda z: np.minimum(np.maximum(z, 0.0), 6.0),
    "clipped_relu(0.8)": lambda z: np.minimum(np.maximum(z, 0.0), 0.8),
}


def naive_step(problem: Problem, state, beta=0.0):
    """u + F(u; β) with NumPy, for one real or complex nudge, straight from the formula."""
    network, params = problem.system, jax.tree.map(np.asarray, problem.params)
    sigma = {name: NAIVE_ACTIVATIONS[chosen] for name, chosen in network.activations}
    activity = {name: sigma[name](u) for name, u in state.items()}
    activity["in"] = np.asarray(problem.inputs)
    new = {name: np.zeros_like(u) for name, u in state.items()}
    for connection in network.connections:
        pre, post = connection.pre, connection.post
        weights = params[f"{post}-{pre}"] if connection.is_tied else params[f"{pre}-{post}"]
        kernel = weights["kernel"].T if connection.is_tied else weights["kernel"]
        bias = weights.get("bias", 0.0) if connection.is_forward else 0.0
        new[post] = new[post] + activity[pre] @ kernel + bias
    output = activity["out"]
    if network.readout:
        output = output @ params["readout"]["kernel"] + params["readout"]["bias"]
    if network.loss_name == "cross_entropy":
        output = np.exp(output) / np.exp(output).sum(axis=-1, keepdims=True)
    by_output = output - np.asarray(problem.targets)
    new["out"] = new["out"] + beta * (
        by_output @ params["readout"]["kernel"].T if network.readout else by_output
    )
    return new


def mean_of(gradient_sum, problem: Problem):
    """The mean over a batch of a gradient summed over it."""
    return jax.tree.map(lambda g: g / len(problem.inputs), gradient_sum)


def naive_relax(problem: Problem, steps: int, beta=0.0, state=None):
    """`steps` synchronous steps, from all zeros unless told."""
    if state is None:
        state = {name: np.zeros((BATCH, size)) for name, (size,) in problem.system.shapes}
    for _ in range(steps):
        state = naive_step(problem, state, beta)
    return state
