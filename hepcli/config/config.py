"""The whole configuration, and the rules that hold across its tables."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pydantic import (
    BaseModel,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from hepcli.settings import (
    CYCLIC,
    INPUT,
    READOUT,
    STRICT,
    TRACKERS,
    CheckpointSettings,
    CodeSettings,
    DataSettings,
    Fault,
    Faults,
    GradientSettings,
    HardwareSettings,
    HomeostasisSettings,
    NetworkSettings,
    OptimizerSettings,
    RelaxationSettings,
    RunSettings,
    assigned,
    cyclic_classes,
    did_you_mean,
    is_holomorphic,
    traits_of,
)

MULTIPLIERS = ("learning_rate_multipliers", "weight_decay_multipliers")


class Config(BaseModel):
    """Everything that decides what a run computes, one attribute for each table."""

    model_config = STRICT

    run: RunSettings
    data: DataSettings
    network: NetworkSettings
    relaxation: RelaxationSettings = Field(default_factory=RelaxationSettings)
    gradient: GradientSettings
    homeostasis: HomeostasisSettings = Field(default_factory=HomeostasisSettings)
    optimizer: OptimizerSettings
    hardware: HardwareSettings = Field(default_factory=HardwareSettings)
    checkpoints: CheckpointSettings = Field(default_factory=CheckpointSettings)
    code: CodeSettings = CodeSettings()

    @model_serializer(mode="wrap")
    def _without_empty_code(self, dump: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Runs without own components have no [code] table."""
        tables: dict[str, object] = dump(self)
        if not self.code.files:
            tables.pop("code", None)
        return tables

    @model_validator(mode="after")
    def _check_across_tables(self) -> "Config":
        names = multiplier_names(self.network.connections, self.network.readout)
        by_key = {key: getattr(self.optimizer, key) for key in MULTIPLIERS}
        faults = multiplier_faults(by_key, names)
        estimator = traits_of(self.gradient.method)
        if self.relaxation.persistent_state and not estimator.has_free_phase:
            key = assigned("relaxation.persistent_state", True)
            faults.append(Fault(key, f"{self.gradient.method} has no free phase; set it to false"))
        precision = self.relaxation.free_precision
        if precision != "float32" and not estimator.has_free_phase and not estimator.is_feedforward:
            key = assigned("relaxation.free_precision", precision)
            faults.append(Fault(key, f"{self.gradient.method} has no free phase; set it to float32"))
        if estimator.is_feedforward:
            faults += _feedforward_faults(self)
        if estimator.is_contrastive:
            faults += _contrast_faults(self)
        if estimator.clamps_output and (self.network.readout or self.network.loss != "squared_error"):
            name = "readout" if self.network.readout else "loss"
            key, method = assigned(f"network.{name}", getattr(self.network, name)), self.gradient.method
            rule = f"{method} clamps layer out to the targets; "
            rule += 'set network.readout=false and network.loss="squared_error"'
            faults.append(Fault(key, rule))
        if self.gradient.beta_radius > estimator.largest_radius:
            key = assigned("gradient.beta_radius", self.gradient.beta_radius)
            most = f"must be at most {estimator.largest_radius:g} with {self.gradient.method}"
            faults.append(Fault(key, most))
        if self.run.patience and not self.data.validation_examples:
            key = assigned("run.patience", self.run.patience)
            faults.append(Fault(key, "needs data.validation_examples above 0 to judge progress"))
        if self.optimizer.nesterov and (self.optimizer.name == "adamw" or not self.optimizer.momentum):
            key = assigned("optimizer.nesterov", True)
            faults.append(Fault(key, 'needs optimizer.name = "sgd" and optimizer.momentum above 0'))
        if self.optimizer.feedback_learning == "kolen_pollack":
            faults += _kolen_pollack_faults(self.network, self.optimizer)
        faults += _tied_faults(self.network, self.optimizer)
        activations = sorted(set(self.network.activations.values()))
        real_only = [name for name in activations if not is_holomorphic(name)]
        faults += nudge_faults(real_only, self.gradient)
        faults += _order_faults(self.network, self.relaxation)
        if faults:
            raise Faults(faults)
        return self


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
    """Check that complex nudges meet what is holomorphic only.

    Args:
        real_only: names of activations, kinds of layers and losses that are not.
        gradient: with the nudges.

    Returns:
        A fault where they do not.
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


def new_run_faults(config: "Config") -> list[Fault]:
    """Check what old runs may do and new ones may not, because it does nothing, or not what it says.

    Args:
        config: of a new run.

    Returns:
        The faults: layers without a cyclic order, where none was given; settings that nothing reads; a
        difference from a state that is only known in half precision.
    """
    faults = [*_cyclic_faults(config), *_idle_faults(config), *_one_sided_faults(config)]
    return [*faults, *_tracker_faults(config)]


def _idle_faults(config: Config) -> list[Fault]:
    """Check that no setting is given which nothing in this run reads."""
    network, relaxation, faults = config.network, config.relaxation, []
    angle, pairs = network.initial_angle_deg, [name for name in network.connections if network.partner(name)]
    if angle and not pairs:
        rule = "no two layers of this network are connected in both directions; set it to 0"
        faults.append(Fault(assigned("network.initial_angle_deg", angle), rule))
    if not any(map(network.is_top_down, network.connections)):
        rule = "this network has no connection from a layer above; set it to {}"
        for key, value, idle in (
            ("network.feedback_strength", network.feedback_strength, 1.0),
            ("optimizer.feedback_learning", config.optimizer.feedback_learning, "gradient"),
        ):
            if value != idle:
                faults.append(Fault(assigned(key, value), rule.format(idle)))
    if config.gradient.method == "dyadic_ep":
        rule = "dyadic_ep has no nudged phase of its own; set relaxation.{}, and this to same"
        for key in ("solver", "tolerance"):
            if (value := getattr(relaxation, f"nudged_{key}")) not in ("same", getattr(relaxation, key)):
                faults.append(Fault(assigned(f"relaxation.nudged_{key}", value), rule.format(key)))
    return faults


def _tracker_faults(config: Config) -> list[Fault]:
    """Check that trackers are known; runs are read without those that they were trained with."""
    trackers = config.run.trackers
    rule = f"must be one of {', '.join(TRACKERS)}"
    return [
        Fault(assigned(f"run.trackers.{place}", name), rule)
        for place, name in enumerate(trackers)
        if name not in TRACKERS
    ]


def _one_sided_faults(config: Config) -> list[Fault]:
    """Check that no state from a free phase in half precision is subtracted: its rounding would remain."""
    estimator, gradient = traits_of(config.gradient.method), config.gradient
    precision = config.relaxation.free_precision
    is_circle = estimator.uses_circle and gradient.num_points == 1
    if precision == "float32" or not estimator.has_free_phase or estimator.is_feedforward:
        return []
    divides = is_circle or estimator.subtracts_states
    if not divides and not estimator.clamps_output:
        return []
    instead = "; set it to float32" + (", or gradient.num_points to 2 or more" if is_circle else "")
    result = "divides its rounding by |β|" if divides else "keeps its rounding"
    rule = f"{gradient.method} subtracts the state of the free phase here and {result}"
    return [Fault(assigned("relaxation.free_precision", precision), rule + instead)]


def _cyclic_faults(config: Config) -> list[Fault]:
    """Check that there is something to alternate."""
    relaxation, network = config.relaxation, config.network
    edges = tuple(pair for pair in network.connection_pairs if pair[0] != INPUT)
    layers = tuple(network.layers)
    solvers = {relaxation.solver, relaxation.nudged.solver}
    if relaxation.order != CYCLIC or len(layers) == 1 or solvers == {"synchronous"}:
        return []
    if len(cyclic_classes(layers, edges)) > 1:
        return []
    solver = min(solvers - {"synchronous"})
    return [
        Fault(
            assigned("relaxation.order", CYCLIC),
            f"the layers of this network have no cyclic order, so {solver} would update all of them at once; "
            'set relaxation.order = "even_odd", "sequential" or groups such as [["l1", "out"], ["l2"]], or '
            'relaxation.solver = "synchronous"',
        )
    ]


def _feedforward_faults(config: Config) -> list[Fault]:
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


def _contrast_faults(config: Config) -> list[Fault]:
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
