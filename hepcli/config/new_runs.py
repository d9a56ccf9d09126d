"""What old runs may do and new ones may not, because it does nothing, or not what it says."""

from hepcli.config.config import Config
from hepcli.settings import (
    CHOOSERS,
    CYCLIC,
    INPUT,
    TRACKERS,
    Fault,
    NetworkSettings,
    assigned,
    cyclic_classes,
    traits_of,
)


def new_run_faults(config: "Config") -> list[Fault]:
    """Check what old runs may do and new ones may not, because it does nothing, or not what it says.

    Args:
        config: of a new run.

    Returns:
        The faults: layers without a cyclic order, where none was given; settings that nothing reads;
        subtraction of a state known only in half precision; unknown trackers.
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
    if config.homeostasis.weight and _is_symmetric(network):
        rule = "nothing of this network can be misaligned; set it to 0"
        faults.append(Fault(assigned("homeostasis.weight", config.homeostasis.weight), rule))
    decays = config.optimizer.weight_decay_multipliers
    untied = [name for name in pairs if network.is_top_down(name) and not network.is_tied(name)]
    decaying = [name for name in untied if decays.get(name, 1.0)]
    if config.optimizer.feedback_learning == "kolen_pollack" and untied and not decaying:
        rule = "needs optimizer.weight_decay_multipliers above 0 for feedback, which aligns the kernels"
        faults.append(Fault(assigned("optimizer.feedback_learning", "kolen_pollack"), rule))
    for table, (key, parts) in CHOOSERS.items():
        settings = getattr(config, table)
        chosen, options = getattr(settings, key), settings.options
        if options and not parts.options_of(chosen):
            place = assigned(f"{table}.options", dict(options))
            faults.append(Fault(place, f"{chosen} has no options; set it to {{}}"))
    if config.gradient.method == "dyadic_ep":
        rule = "dyadic_ep has no nudged phase of its own; set relaxation.{}, and this to same"
        for key in ("solver", "tolerance"):
            if (value := getattr(relaxation, f"nudged_{key}")) not in ("same", getattr(relaxation, key)):
                faults.append(Fault(assigned(f"relaxation.nudged_{key}", value), rule.format(key)))
    return faults


def _is_symmetric(network: NetworkSettings) -> bool:
    """Whether the Jacobian is, whatever the kernels: each leads to a layer and, transposed, back from it."""
    between = [name for name in network.connections if not name.startswith(f"{INPUT}-")]
    tied = [name for name in between if network.is_tied(name)]
    partners = {network.partner(name) for name in tied}
    return all(name in partners or (name in tied and network.strength(name) == 1.0) for name in between)


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
    if is_circle and gradient.beta_sign == "random":
        instead += " and gradient.beta_sign to positive"
    result = "divides its rounding by |β|" if divides else "keeps its rounding"
    rule = f"{gradient.method} subtracts the state of the free phase here and {result}"
    return [Fault(assigned("relaxation.free_precision", precision), rule + instead)]


def _cyclic_faults(config: Config) -> list[Fault]:
    """Check that there is something to alternate."""
    relaxation, network = config.relaxation, config.network
    edges = tuple(pair for pair in network.connection_pairs if pair[0] != INPUT)
    layers = tuple(network.layers)
    solvers = {"solver": relaxation.solver, "nudged_solver": relaxation.nudged_solver}
    grouped = {key: name for key, name in solvers.items() if name not in ("synchronous", "same")}
    if relaxation.order != CYCLIC or len(layers) == 1 or not grouped:
        return []
    if traits_of(config.gradient.method).is_feedforward or len(cyclic_classes(layers, edges)) > 1:
        return []
    instead = " and ".join(f'relaxation.{key} = "synchronous"' for key in grouped)
    return [
        Fault(
            assigned("relaxation.order", CYCLIC),
            f"the layers of this network have no cyclic order, so {min(grouped.values())} would update all "
            'of them at once; set relaxation.order = "even_odd", "sequential" or groups such as '
            f'[["l1", "out"], ["l2"]], or {instead}',
        )
    ]
