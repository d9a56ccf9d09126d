"""Configurations as flat tables of dotted keys: compare them, and name them by a hash."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace

from hepcli.config.config import Config
from hepcli.config.rules import MULTIPLIERS

OUTSIDE_HASH = ("run.devices", "run.trackers")
"""Keys that say where a run is trained and followed, not what it computes."""


def flatten(tables: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Write nested tables as dotted keys, in their order.

    Args:
        tables: nested tables, such as `config.model_dump(mode="json")`.
        prefix: dotted key of `tables` itself.

    Returns:
        Dotted key to value; an empty table is a value.
    """
    flat: dict[str, object] = {}
    for name, value in tables.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{key}."))
        else:
            flat[key] = value
    return flat


def overlap(key: str, other: str) -> bool:
    """Tell whether two dotted keys are the same, or one lies inside the other."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def differences(a: Config, b: Config) -> list[tuple[str, object, object]]:
    """List the dotted keys in which two configurations differ.

    Args:
        a: one configuration.
        b: the other.

    Returns:
        (key, value in a, value in b); None stands for a key that one of them lacks. Layers in
        another order count as `network.layers`, because that order decides what is forward.
    """
    # An empty table differs from a full one by the keys of the full one.
    flat_a, flat_b = (
        {key: value for key, value in flatten(config.model_dump(mode="json")).items() if value != {}}
        for config in (a, b)
    )
    result = [
        (key, flat_a.get(key), flat_b.get(key))
        for key in dict.fromkeys([*flat_a, *flat_b])
        if flat_a.get(key) != flat_b.get(key)
    ]
    order_a, order_b = list(a.network.layers), list(b.network.layers)
    if order_a != order_b and set(order_a) == set(order_b):
        result.append(("network.layers", order_a, order_b))
    return result


def without_numbers(config: Config) -> Config:
    """The configuration with one value for every number that is compiled in only if it has to be.

    Runs of equal results share compiled programs, and can train together. The numbers are the seed, the
    initial angle, |β|, the learning rate, and λ, of which remains whether there is homeostasis at all.
    """
    weight = 1.0 if config.homeostasis.weight > 0 else 0.0
    return config.model_copy(
        update={
            "run": replace(config.run, seed=0),
            "network": replace(config.network, initial_angle_deg=0.0),
            "gradient": replace(config.gradient, beta_radius=1.0),
            "homeostasis": replace(config.homeostasis, weight=weight),
            "optimizer": replace(config.optimizer, learning_rate=1.0),
        }
    )


def names_in(config: Config) -> set[str]:
    """All words among the values of a configuration, the names of its parts among them."""
    values = flatten(config.model_dump(mode="json")).values()
    return {value for value in values if isinstance(value, str)}


def config_hash(config: Config) -> str:
    """Name a configuration by its content.

    Args:
        config: the configuration.

    Returns:
        12 hexadecimal digits, the same for the same values however they were stated, and with later
        versions that know more keys: values at their defaults are left out.
    """
    tables = config.model_dump(mode="json", exclude_defaults=True)
    for key in OUTSIDE_HASH:
        table, name = key.split(".")
        tables[table].pop(name, None)
    # Only these are sorted: the order of layers has a meaning, that of tables is fixed.
    if "kernels" in tables["network"]:
        kernels = tables["network"]["kernels"]
        tables["network"]["kernels"] = {name: dict(sorted(kernels[name].items())) for name in sorted(kernels)}
    for table, name in (
        ("network", "feedback_strength_multipliers"),
        *(("optimizer", m) for m in MULTIPLIERS),
    ):
        if name in tables[table]:
            tables[table][name] = dict(sorted(tables[table][name].items()))
    canonical = json.dumps(tables, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]
