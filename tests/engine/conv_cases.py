"""Small random convolutional networks, and a naive implementation of their dynamics."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hepcli.engine import Problem
from hepcli.networks import Network, build_network
from hepcli.settings import ConvLayer, DenseLayer, GradientSettings, NetworkSettings, RelaxationSettings

from .cases import NAIVE_ACTIVATIONS

BATCH, NUM_CLASSES = 2, 3
LAYERED = "in-l1 l1-l2 l2-l1 l2-out out-l2"


class ConvCase(NamedTuple):
    """A network to try a law on."""

    layers: tuple[ConvLayer | DenseLayer, ...]
    symmetric: bool
    loss: str = "cross_entropy"
    readout: bool = True
    connections: str = LAYERED
    solver: str = "synchronous"


def conv(channels: int, **settings) -> ConvLayer:
    return ConvLayer(kind="conv", channels=channels, **settings)


def conv_network(
    layers, connections, image, num_classes, activation="dsilu", loss="cross_entropy", readout=True
) -> Network:
    """A network of (name, layer) pairs and `pre-post` names."""
    settings = NetworkSettings(
        activation=activation,
        loss=loss,
        readout=readout,
        layers=dict(layers),
        connections=tuple(connections),
    )
    return build_network(settings, image, num_classes)


SHARED = (
    conv(2),
    conv(3, kernel_size=2, pool_stride=1, pool_temperature=0.7),
    conv(4, kernel_size=2, padding="valid", pool_size=1, pool_stride=1),
)
LOCAL = (
    conv(2, weights="local"),
    conv(3, weights="local", pool_size=1, pool_stride=1),
    conv(4, padding="valid"),
)
TOPPED = (conv(2), DenseLayer(units=4), DenseLayer(units=3))
CASES = {
    "shared": ConvCase(SHARED, symmetric=False),
    "local": ConvCase(LOCAL, symmetric=False, loss="squared_error", solver="alternating"),
    "topped": ConvCase(TOPPED, symmetric=False, loss="squared_error", readout=False),
    "no_pair": ConvCase(SHARED, symmetric=False, connections="in-l1 l1-l2 l2-out out-l2"),
    "shared_symmetric": ConvCase(SHARED, symmetric=True, solver="alternating"),
    "local_symmetric": ConvCase(LOCAL, symmetric=True),
    "topped_symmetric": ConvCase(TOPPED, symmetric=True, loss="squared_error", readout=False),
}
ASYMMETRIC = [name for name, case in CASES.items() if not case.symmetric]
SYMMETRIC = [name for name, case in CASES.items() if case.symmetric]


def make_problem(name: str, method: str = "hep", **gradient) -> Problem:
    """A batch of 8 × 8 images on the case's network, with weights that make the dynamics contract."""
    case, rng = CASES[name], np.random.default_rng(len(name))
    network = conv_network(
        zip(("l1", "l2", "out"), case.layers, strict=True),
        case.connections.split(),
        (8, 8, 2),
        NUM_CLASSES,
        "dsilu",
        case.loss,
        case.readout,
    )
    params = random_params(network, rng, case.symmetric)
    return Problem(
        network,
        params,
        jnp.asarray(rng.standard_normal((BATCH, 8, 8, 2))),
        jnp.eye(NUM_CLASSES)[rng.integers(0, NUM_CLASSES, BATCH)],
        RelaxationSettings(case.solver, free_steps=120, nudged_steps=120),
        GradientSettings(method, **gradient),
    )


def random_params(network: Network, rng, symmetric: bool):
    """Normal kernels and biases of the shapes `init` gives, feedback of a symmetric network the partner's."""
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    params = {}
    for name, leaves in shapes.items():
        fan_in = np.prod(leaves["kernel"].shape[-4:-1])
        scale = 0.5 if name != "readout" else 1.0
        kernel = scale * rng.standard_normal(leaves["kernel"].shape) / np.sqrt(fan_in)
        partner = "-".join(reversed(name.split("-")))
        if symmetric and partner in params:
            kernel = np.asarray(params[partner]["kernel"])
            kernel = kernel.T if kernel.ndim == 2 else kernel
        params[name] = {"kernel": jnp.asarray(kernel)}
        if "bias" in leaves:
            params[name]["bias"] = jnp.asarray(0.5 + 0.3 * rng.standard_normal(leaves["bias"].shape))
    return params


def naive_convolution(layer: ConvLayer, kernel, image):
    """One place after the other; image (..., height, width, pre), real or complex."""
    size = layer.kernel_size
    *leading, height, width, pre = image.shape
    if layer.padding == "same":
        before = (size - 1) // 2
        padded = np.zeros((*leading, height + size - 1, width + size - 1, pre), image.dtype)
        padded[..., before : before + height, before : before + width, :] = image
        image = padded
    rows, columns = ((length - size) // layer.stride + 1 for length in image.shape[-3:-1])
    out = np.zeros((*leading, rows, columns, layer.channels), image.dtype)
    for i in range(rows):
        for j in range(columns):
            own = kernel[i, j] if layer.weights == "local" else kernel
            a, b = i * layer.stride, j * layer.stride
            out[..., i, j, :] = np.einsum("...abi,abio->...o", image[..., a : a + size, b : b + size, :], own)
    return out


def naive_pool(layer: ConvLayer, values):
    """One window after the other, straight from the formula."""
    size, stride, temperature = layer.pool_size, layer.pool_stride, layer.pool_temperature
    rows, columns = ((length - size) // stride + 1 for length in values.shape[-3:-1])
    out = np.zeros((*values.shape[:-3], rows, columns, values.shape[-1]), values.dtype)
    for i in range(rows):
        for j in range(columns):
            window = values[..., i * stride : i * stride + size, j * stride : j * stride + size, :]
            weights = np.exp(window / temperature)
            out[..., i, j, :] = (weights * window).sum(axis=(-3, -2)) / weights.sum(axis=(-3, -2))
    return out


def naive_up(layer: ConvLayer, kernel, below):
    return naive_pool(layer, naive_convolution(layer, kernel, below))


def naive_down(layer: ConvLayer, kernel, below, above):
    """The derivative of ⟨pool(B ∗ below), above⟩ by central differences, in each entry of `below`."""
    steps = 1e-5 * np.eye(below.size).reshape(-1, *below.shape)
    ends = [
        np.sum(naive_up(layer, kernel, below + shift) * above, axis=(-3, -2, -1)) for shift in (steps, -steps)
    ]
    return ((ends[0] - ends[1]) / 2e-5).reshape(below.shape)


def naive_step(problem: Problem, state, beta=0.0):
    """u + F(u; β) with NumPy, one example after the other."""
    network, params = problem.system, jax.tree.map(np.asarray, problem.params)
    sigma = {name: NAIVE_ACTIVATIONS[chosen] for name, chosen in network.activations}
    new = {name: np.zeros_like(u) for name, u in state.items()}
    for example in range(BATCH):
        r = {name: sigma[name](u[example]) for name, u in state.items()}
        r["in"] = np.asarray(problem.inputs[example])
        for connection in network.connections:
            pre, post, layer = connection.pre, connection.post, connection.layer
            weights = params[connection.partner if connection.is_tied else connection.name]
            if isinstance(layer, DenseLayer):
                kernel = weights["kernel"].T if connection.is_tied else weights["kernel"]
                term = (r[pre].ravel() @ kernel).reshape(new[post].shape[1:])
            elif connection.is_forward:
                term = naive_up(layer, weights["kernel"], r[pre])
            else:
                term = naive_down(layer, weights["kernel"], r[post], r[pre])
            new[post][example] += term
            if connection.has_bias:
                bias = weights["bias"]
                new[post][example] += bias.reshape(term.shape) if bias.size == term.size else bias
        output = r["out"].ravel()
        if network.readout:
            output = output @ params["readout"]["kernel"] + params["readout"]["bias"]
        if network.loss_name == "cross_entropy":
            output = np.exp(output) / np.exp(output).sum()
        slope = output - np.asarray(problem.targets[example])
        slope = slope @ params["readout"]["kernel"].T if network.readout else slope
        new["out"][example] += beta * slope.reshape(new["out"].shape[1:])
    return new
