"""Which devices share a run's batches."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import jax

from hepcli.config import Config, ResolvedConfig
from hepcli.engine import estimator_of
from hepcli.errors import ConfigError
from hepcli.networks import Network

_FORCED = "xla_force_host_platform_device_count"
_WORTHWHILE = 1e8  # multiply-adds of a training step for each device: about a millisecond of one core
_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_ROOM = 0.9  # of the memory, for a step
_FEWEST_EXAMPLES = 4  # for each device


def offer_cores(at_least: int = 1) -> None:
    """Let JAX present the processor as a device for each core; before anything else of JAX is used.

    Not where XLA_FLAGS says how many, where JAX runs already, or where several processes train one run.

    Args:
        at_least: devices to present on a processor with fewer cores.
    """
    if _FORCED in os.environ.get("XLA_FLAGS", "") or jax.distributed.is_initialized():
        return
    try:
        jax.config.update("jax_num_cpu_devices", max(at_least, cores()))  # type: ignore[no-untyped-call]
    except RuntimeError:
        return  # JAX runs already: whoever started it has chosen


def cores() -> int:
    """Cores that this process may use; a sweep gives each of its workers some."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_limit() -> int:
    """Bytes of memory that this process may use: the machine's, or less where its control groups say so."""
    limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in _memory_limits():
        with suppress(OSError, ValueError):  # not there, or "max"
            limit = min(limit, int(file.read_text(encoding="ascii")))
    return limit


def memory_of(device: jax.Device) -> int | None:
    """Bytes of memory that programs on a device may use; None where it does not tell."""
    if device.platform == "cpu":
        return memory_limit()
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return None if limit is None else int(limit)


def number_that_fits(needed: float, memory: int) -> int:
    """How many times work that needs so many bytes fits the memory, at least once."""
    return max(1, int(_ROOM * memory / needed))


def parts_that_fit(needed: float, memory: int) -> int:
    """Into how many parts, a power of two, work that needs more bytes than the memory must be divided."""
    parts: int = 2 ** math.ceil(math.log2(needed / (_ROOM * memory)))
    return parts


def _memory_limits() -> Iterator[Path]:
    """Files with the limits of this process's control groups, of version 2 and 1, from the root down."""
    try:
        groups = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return  # no Linux
    for group in groups:
        _, controllers, own = group.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        folder, name = (
            (_CONTROL_GROUPS / "memory", "memory.limit_in_bytes")
            if controllers
            else (_CONTROL_GROUPS, "memory.max")
        )
        yield folder / name
        for part in Path(own).parts[1:]:
            folder /= part
            yield folder / name


def devices_for(config: Config, network: Network) -> list[jax.Device]:
    """The devices that share each batch: as many as `run.devices` says and there are, or as many as help.

    Of GPUs those are as many as divide the batch, of a processor's cores as many as also get four examples
    each and a millisecond of work; of several processes all, and of cores that XLA_FLAGS asks for.
    """
    devices = jax.devices()
    if config.run.devices:
        return devices[: config.run.devices]
    is_chosen = _FORCED in os.environ.get("XLA_FLAGS", "") or jax.process_count() > 1
    if is_chosen:
        return devices
    batch, helpful = config.data.batch_size // config.data.accumulate, len(devices)
    if devices[0].platform == "cpu":
        helpful = min(helpful, batch // _FEWEST_EXAMPLES, int(_work(config, network) / _WORTHWHILE))
    return devices[: max((n for n in range(1, helpful + 1) if batch % n == 0), default=1)]


def idle_notice(config: Config, in_use: int) -> str | None:
    """What to say where GPUs are left idle because they do not divide the batch.

    Args:
        config: as it was asked for.
        in_use: how many devices share each batch.
    """
    devices = jax.devices()
    if config.run.devices or devices[0].platform == "cpu" or in_use == len(devices):
        return None
    batch, keys = config.data.batch_size // config.data.accumulate, "data.batch_size"
    if config.data.accumulate > 1:
        keys += " / data.accumulate"
    return (
        f"{in_use} of {len(devices)} GPUs in use: {len(devices)} cannot share {batch} examples evenly "
        f"({keys})."
    )


def _work(config: Config, network: Network) -> float:
    """Multiply-adds of a training step, about: a step of the dynamics updates every other layer."""
    if estimator_of(config.gradient.method).is_feedforward:
        return 3.0 * config.data.batch_size * sum(own.multiply_adds for own in network.connections)
    once = sum(own.multiply_adds for own in network.connections if own.pre != "in") / 2
    return config.data.batch_size * (config.relaxation.free_steps + config.relaxation.nudged_steps) * once


def check_devices(config: Config) -> None:
    """Check that the devices a new run asks for are there.

    Raises:
        ConfigError: there are fewer.
    """
    count = len(jax.devices())
    if config.run.devices > count:
        raise ConfigError(
            f"run.devices = {config.run.devices}: JAX finds only {count} device(s) here.",
            f"Choose at most {count}, or 0 to let hep choose.",
        )


def with_devices(resolved: ResolvedConfig, count: int, source: str) -> ResolvedConfig:
    """The configuration with a number of devices, and where it comes from unless it is as it was."""
    config = resolved.config
    if config.run.devices == count:
        return resolved
    own = config.model_copy(update={"run": replace(config.run, devices=count)})
    return resolved._replace(config=own, sources={**resolved.sources, "run.devices": source})
