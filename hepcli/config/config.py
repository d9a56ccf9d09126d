"""The whole configuration, and the rules that hold across its tables."""

from collections.abc import Iterable, Mapping

from pydantic import (
    BaseModel,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from hepcli.settings import (
    ESTIMATORS,
    INPUT,
    READOUT,
    STRICT,
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
    did_you_mean,
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
        """Runs without own parts have no [code] table."""
        tables: dict[str, object] = dump(self)
        if not self.code.files:
            tables.pop("code", None)
        return tables

    @model_validator(mode="after")
    def _check_across_tables(self) -> "Config":
        names = multiplier_names(self.network.connections, self.network.readout)
        by_key = {key: getattr(self.optimizer, key) for key in MULTIPLIERS}
        problems = multiplier_problems(by_key, names)
        estimator = ESTIMATORS[self.gradient.method]
        if self.relaxation.persistent_state and not estimator.has_free_phase:
            key = assigned("relaxation.persistent_state", True)
            problems.append(Fault(key, f"{self.gradient.method} has no free phase to start"))
        if estimator.is_feedforward:
            problems += _feedforward_problems(self)
        if estimator.is_contrastive:
            problems += _contrast_problems(self)
        if estimator.clamps_output and self.network.readout:
            key, method = assigned("network.readout", True), self.gradient.method
            rule = (
                f'{method} holds layer out at the targets: set it to false, with network.loss="squared_error"'
            )
            problems.append(Fault(key, rule))
        if self.gradient.beta_radius > estimator.largest_radius:
            key = assigned("gradient.beta_radius", self.gradient.beta_radius)
            most = f"must be at most {estimator.largest_radius:g} with {self.gradient.method}"
            problems.append(Fault(key, most))
        if self.run.patience and not self.data.validation_examples:
            key = assigned("run.patience", self.run.patience)
            problems.append(Fault(key, "needs data.validation_examples above 0, which it goes by"))
        if self.optimizer.feedback_learning == "kolen_pollack":
            problems += _kolen_pollack_problems(self.network, self.optimizer)
        if problems:
            raise Faults(problems)
        return self


def _feedforward_problems(config: Config) -> list[Fault]:
    """Check that nothing needs the feedback which the network goes without, neither a layer nor a setting."""
    method, learning = config.gradient.method, config.optimizer.feedback_learning
    problems = [
        Fault(problem.key, f"{problem.message}, but for feedback, which {method} leaves out")
        for problem in config.network.forward_path_problems()
    ]
    if config.homeostasis.weight:
        key = assigned("homeostasis.weight", config.homeostasis.weight)
        problems.append(Fault(key, f"{method} leaves out the feedback that it aligns; set it to 0"))
    if learning != "gradient":
        key = assigned("optimizer.feedback_learning", learning)
        problems.append(Fault(key, f'{method} leaves out feedback; set it to "gradient"'))
    return problems


def _contrast_problems(config: Config) -> list[Fault]:
    """Check that every connection between layers has one that leads back."""
    method, network = config.gradient.method, config.network
    rule = f"nothing leads back, and {method} is for connections both ways"
    return [
        Fault(assigned("network.connections", f"{pre}-{post}"), f"{rule}; add {post}-{pre}")
        for pre, post in network.connection_pairs
        if pre != INPUT and f"{post}-{pre}" not in network.connections
    ]


def _kolen_pollack_problems(network: NetworkSettings, optimizer: OptimizerSettings) -> list[Fault]:
    """Check that every top-down kernel has a partner, and that their difference decays."""
    key = assigned("optimizer.feedback_learning", optimizer.feedback_learning)
    problems = []
    if optimizer.weight_decay == 0:
        problems.append(Fault(key, "needs optimizer.weight_decay above 0, which aligns the kernels"))
    for name in filter(network.is_top_down, network.connections):
        partner = network.partner(name)
        if partner is None:
            problems.append(Fault(key, f"{name} has no forward partner to learn from"))
            continue
        for table in MULTIPLIERS:
            factors = getattr(optimizer, table)
            if factors.get(name, 1.0) != factors.get(partner, 1.0):
                problems.append(Fault(key, f"needs equal optimizer.{table} of {name} and {partner}"))
    return problems


def multiplier_names(connections: Iterable[str], readout: bool) -> list[str]:
    """List what a multiplier may name.

    Args:
        connections: connections of the network.
        readout: whether the network has a readout.

    Returns:
        The connections, then `readout` where there is one.
    """
    return [*connections, READOUT] if readout else list(connections)


def multiplier_problems(by_key: Mapping[str, Mapping[str, object]], names: list[str]) -> list[Fault]:
    """Check that each multiplier names a connection of the network, or its readout.

    Args:
        by_key: key of the [optimizer] table to its table of multipliers.
        names: what `multiplier_names` lists.

    Returns:
        One problem for each name the network does not have.
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
