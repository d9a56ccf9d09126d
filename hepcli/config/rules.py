"""The rules that hold across the tables of a configuration."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from hepcli.settings import (
    INPUT,
    READOUT,
    Fault,
    GradientSettings,
    NetworkSettings,
    OptimizerSettings,
    RelaxationSettings,
    assigned,
    did_you_mean,
    is_holomorphic,
    traits_of,
)

if TYPE_CHECKING:
    from hepcli.config.config import Config

MULTIPLIERS = ("learning_rate_multipliers", "weight_decay_multipliers")


def faults_across_tables(config: "Config") -> list[Fault]:
    """Check what no table can check by itself.

    Args:
        config: with tables that are valid each by itself.

    Returns:
        The faults.
    """
    network, optimizer = config.network, config.optimizer
    by_key = {key: getattr(optimizer, key) for key in MULTIPLIERS}
    real_only = [name for name in sorted(set(network.activations.values())) if not is_holomorphic(name)]
    return [
        *multiplier_faults(by_key, multiplier_names(network.connections, network.readout)),
        *_method_faults(config),
        *_training_faults(config),
        *_tied_faults(network, optimizer),
        *nudge_faults(real_only, config.gradient),
        *_order_faults(network, config.relaxation),
    ]


def _method_faults(config: "Config") -> list[Fault]:
    """Check that the estimator has what other tables ask of it, and they what it needs."""
    network, relaxation, gradient, faults = config.network, config.relaxation, config.gradient, []
    method, estimator = gradient.method, traits_of(gradient.method)
    if relaxation.persistent_state and not estimator.has_free_phase:
        key = assigned("relaxation.persistent_state", True)
        faults.append(Fault(key, f"{method} has no free phase; set it to false"))
    precision = relaxation.free_precision
    if precision != "float32" and not estimator.has_free_phase and not estimator.is_feedforward:
        key = assigned("relaxation.free_precision", precision)
        faults.append(Fault(key, f"{method} has no free phase; set it to float32"))
    if estimator.is_feedforward:
        faults += _feedforward_faults(config)
    if estimator.is_contrastive:
        faults += _contrast_faults(config)
    if estimator.clamps_output and (network.readout or network.loss != "squared_error"):
        name = "readout" if network.readout else "loss"
        rule = f"{method} clamps layer out to the targets; "
        rule += 'set network.readout=false and network.loss="squared_error"'
        faults.append(Fault(assigned(f"network.{name}", getattr(network, name)), rule))
    if gradient.beta_radius > estimator.largest_radius:
        most = f"must be at most {estimator.largest_radius:g} with {method}"
        faults.append(Fault(assigned("gradient.beta_radius", gradient.beta_radius), most))
    return faults


def _training_faults(config: "Config") -> list[Fault]:
    """Check that patience, momentum and the way in which feedback learns have what they need."""
    optimizer, faults = config.optimizer, []
    if config.run.patience and not config.data.validation_examples:
        key = assigned("run.patience", config.run.patience)
        faults.append(Fault(key, "needs data.validation_examples above 0 to judge progress"))
    if optimizer.nesterov and (optimizer.name == "adamw" or not optimizer.momentum):
        key = assigned("optimizer.nesterov", True)
        faults.append(Fault(key, 'needs optimizer.name = "sgd" and optimizer.momentum above 0'))
    if optimizer.feedback_learning == "kolen_pollack":
        faults += _kolen_pollack_faults(config.network, optimizer)
    return faults


def _tied_faults(network: NetworkSettings, optimizer: OptimizerSettings) -> list[Fault]:
    """Check that nothing is asked of tied kernels by themselves."""
    tied = [name for name in network.connections if network.is_tied(name)]
    free = [name for name in network.connections if network.is_top_down(name) and name not in tied]
    faults = [
        Fault(
            assigned(f"optimizer.{table}.{name}", getattr(optimizer, table)[name]),
            f"{name} is tied to {network.partner(name)}; set that one instead",
        )
        for name in tied
        for table in MULTIPLIERS
        if name in getattr(optimizer, table)
    ]
    if tied and not free:
        if network.initial_angle_deg:
            key = assigned("network.initial_angle_deg", network.initial_angle_deg)
            faults.append(Fault(key, "must be 0 if all feedback is tied (network.tied)"))
        if optimizer.feedback_learning != "gradient":
            key = assigned("optimizer.feedback_learning", optimizer.feedback_learning)
            faults.append(Fault(key, 'must be "gradient" if all feedback is tied (network.tied)'))
    return faults


def nudge_faults(real_only: Sequence[str], gradient: GradientSettings) -> list[Fault]:
    """Check that nudges are real where something is not holomorphic.

    Args:
        real_only: names of activations, kinds of layers and losses that are not.
        gradient: with the nudges.

    Returns:
        A fault where they are complex all the same.
    """
    if not real_only or not traits_of(gradient.method).is_complex(gradient.num_points):
        return []
    why = f"{real_only[0]} is not holomorphic, so nudges must be real"
    use = 'use gradient.method = "hep" with gradient.num_points = 1 or 2, or "hep_exact"'
    if traits_of(gradient.method).always_complex:
        return [Fault(assigned("gradient.method", gradient.method), f"{why}; {use}")]
    return [Fault(assigned("gradient.num_points", gradient.num_points), f"{why}; {use}")]


def _order_faults(network: NetworkSettings, relaxation: RelaxationSettings) -> list[Fault]:
    """Check that groups by name hold every layer once."""
    if isinstance(relaxation.order, str):
        return []
    named, layers = [name for group in relaxation.order for name in group], list(network.layers)
    key = "relaxation.order"
    unknown = [
        Fault(key, f"there is no layer {name}{did_you_mean(name, layers)}")
        for name in dict.fromkeys(named)
        if name not in layers
    ]
    twice = [Fault(key, f"{name} is listed {n} times") for name, n in Counter(named).items() if n > 1]
    missing = [Fault(key, f"{name} is in none of the groups") for name in layers if name not in named]
    return unknown + twice + missing


def _feedforward_faults(config: "Config") -> list[Fault]:
    """Check that nothing needs the feedback which the network goes without, neither a layer nor a setting."""
    method, learning = config.gradient.method, config.optimizer.feedback_learning
    faults = [
        Fault(fault.key, f"{fault.message} without feedback, which {method} leaves out")
        for fault in config.network.forward_path_faults()
    ]
    if config.homeostasis.weight:
        key = assigned("homeostasis.weight", config.homeostasis.weight)
        faults.append(
            Fault(key, f"{method} leaves out the feedback that homeostasis would align; set it to 0")
        )
    if learning != "gradient":
        key = assigned("optimizer.feedback_learning", learning)
        faults.append(Fault(key, f'{method} leaves out feedback; set it to "gradient"'))
    return faults


def _contrast_faults(config: "Config") -> list[Fault]:
    """Check that every connection between layers has one that leads back."""
    method, network = config.gradient.method, config.network
    rule = f"there is no connection back, and {method} needs connections in both directions"
    return [
        Fault(assigned("network.connections", f"{pre}-{post}"), f"{rule}; add {post}-{pre}")
        for pre, post in network.connection_pairs
        if pre != INPUT and f"{post}-{pre}" not in network.connections
    ]


def _kolen_pollack_faults(network: NetworkSettings, optimizer: OptimizerSettings) -> list[Fault]:
    """Check that every top-down kernel has a partner, and that their difference decays."""
    key = assigned("optimizer.feedback_learning", optimizer.feedback_learning)
    faults = []
    if optimizer.weight_decay == 0:
        faults.append(Fault(key, "needs optimizer.weight_decay above 0, which aligns the kernels"))
    for name in filter(network.is_top_down, network.connections):
        if network.is_tied(name):
            continue
        partner = network.partner(name)
        if partner is None:
            faults.append(Fault(key, f"{name} has no forward partner to learn from"))
            continue
        for table in MULTIPLIERS:
            factors = getattr(optimizer, table)
            if factors.get(name, 1.0) != factors.get(partner, 1.0):
                faults.append(Fault(key, f"needs equal optimizer.{table} for {name} and {partner}"))
    return faults


def multiplier_names(connections: Iterable[str], readout: bool) -> list[str]:
    """List what a multiplier may name.

    Args:
        connections: connections of the network.
        readout: whether the network has a readout.

    Returns:
        The connections, then `readout` where there is one.
    """
    return [*connections, READOUT] if readout else list(connections)


def multiplier_faults(by_key: Mapping[str, Mapping[str, object]], names: list[str]) -> list[Fault]:
    """Check that each multiplier names a connection of the network, or its readout.

    Args:
        by_key: key of the [optimizer] table to its table of multipliers.
        names: what `multiplier_names` lists.

    Returns:
        One fault for each name the network does not have.
    """
    return [
        Fault(
            assigned(f"optimizer.{key}.{name}", factor),
            f"the network has no connection {name}{did_you_mean(name, names)}",
        )
        for key, multipliers in by_key.items()
        for name, factor in multipliers.items()
        if name not in names
    ]
