"""Weights as devices hold them: few bits, mismatch, read noise, and updates in steps (METHOD §11)."""

import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from hepcli.engine import Gradient, Params
from hepcli.settings import HardwareSettings

_MISMATCH_TAG, _READ_TAG, _UPDATE_TAG = 0x6D69736D, 0x72656164, 0x75706474  # "mism", "read", "updt"


def weights_as_read(
    params: Params, hardware: HardwareSettings, seed: int | Array, step: int | Array
) -> Gradient:
    """What the network computes with: kernels quantised, then times the factors of mismatch and read noise.

    The learning signal is taken at these and applied to `params` themselves: a straight-through update, which
    knows neither rounding nor mismatch. Biases and what `hardware` leaves alone are as they were.

    Args:
        params: real parameters, the float copy.
        hardware: the [hardware] table.
        seed: of the run; mismatch depends on it alone, so that it is that of one set of devices.
        step: of the run; read noise depends on both.

    Source: METHOD §11.
    """
    key = jax.random.key(seed)
    of_devices = jax.random.fold_in(key, _MISMATCH_TAG)
    of_reads = jax.random.fold_in(jax.random.fold_in(key, step), _READ_TAG)

    def read(name: str, kernel: Array) -> Array:
        if hardware.weight_bits:
            kernel = quantised(kernel, hardware.weight_bits)
        for std, source in ((hardware.mismatch_std, of_devices), (hardware.read_noise_std, of_reads)):
            if std:
                kernel = kernel * (1 + std * _normal(source, name, kernel))
        return kernel

    return _on_kernels(read, params)


def quantised(kernel: Array, bits: int) -> Array:
    """The nearest of 2^bits − 1 evenly spaced values from −max|kernel| to max|kernel|, zero among them.

    Args:
        kernel: real.
        bits: at least 2.

    Source: METHOD §11.
    """
    largest = jnp.max(jnp.abs(kernel))
    unit = jnp.where(largest > 0, largest, 1) / (2 ** (bits - 1) - 1)
    nearest: Array = jnp.round(kernel / unit) * unit
    return nearest


def updates_as_taken(
    updates: Gradient, hardware: HardwareSettings, seed: int | Array, step: int | Array
) -> Gradient:
    """Changes of kernels as whole multiples of `update_step`; those of biases as they were.

    Args:
        updates: what is to be added to the parameters.
        hardware: the [hardware] table.
        seed: of the run.
        step: of the run; the rounding of a step depends on both.

    Source: METHOD §11.
    """
    unit = hardware.update_step
    if not unit:
        return updates
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), _UPDATE_TAG)

    def take(name: str, update: Array) -> Array:
        count = update / unit
        if hardware.update_rounding == "nearest":
            return unit * jnp.round(count)
        return unit * jnp.floor(count + jax.random.uniform(_own(key, name), update.shape, update.dtype))

    return _on_kernels(take, updates)


def _on_kernels(change: Callable[[str, Array], Array], tree: Params) -> Gradient:
    """A tree like the parameters with every kernel changed, given the name of its connection."""
    return {
        name: {leaf: change(name, value) if leaf == "kernel" else value for leaf, value in weights.items()}
        for name, weights in tree.items()
    }


def _normal(key: Array, name: str, kernel: Array) -> Array:
    """Standard normal numbers of a connection, the same in every precision."""
    return jax.random.normal(_own(key, name), kernel.shape, jnp.float32).astype(kernel.dtype)


def _own(key: Array, name: str) -> Array:
    """The key of a connection, whatever others there are."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
