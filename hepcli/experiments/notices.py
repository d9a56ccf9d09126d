"""What the user should know of a configuration before it is trained, and of an epoch once it is over."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from hepcli.config import Config
from hepcli.engine import estimator_of, layers_reached
from hepcli.settings import INPUT, SCHEDULES, SOLVERS, RelaxationSettings, traits_of

SMALLEST_RADIUS = 1e-4
"""|β| below which rounding in float32 changes the gradient of a batch by more than about 1 % (METHOD §3)."""
MOST_ADJOINT_STEPS = 30
"""Steps after which adjoints of examples that have not settled outweigh the others' (METHOD §3)."""


def method_notices(config: Config) -> list[str]:
    """Say what of a gradient is not what its method promises.

    Args:
        config: of the run.

    Returns:
        Notices of rounding, of adjoints that grow, and of layers that the error signal does not come to.
    """
    return [*_rounding_notices(config), *_adjoint_notices(config), *_reach_notices(config)]


def training_notices(config: Config, history: Iterable[Mapping[str, Any]]) -> list[str]:
    """What was said of a run while it was trained, by its method and its epochs.

    Args:
        config: of the run.
        history: the lines of its metrics.jsonl.
    """
    return [*method_notices(config), *(text for line in history for text in epoch_notices(config, line))]


def epoch_notices(config: Config, metrics: Mapping[str, Any]) -> list[str]:
    """Say that states of an epoch are not finite, or that it taught nothing.

    Args:
        config: of the run.
        metrics: its line of metrics.jsonl.
    """
    found = [
        f"{metrics[split]['nonfinite']} {split} examples have non-finite states (NaN or infinity)"
        for split in ("train", "test")
        if metrics[split].get("nonfinite")  # of older runs unknown
    ]
    if config.relaxation.unsettled == "skip" and metrics["train"]["settled"] == 0:
        found.append(
            "no training example settled, and relaxation.unsettled = skip leaves out those that have not: "
            "nothing was learned. Raise relaxation.free_steps, lower network.layers.NAME.gain, or use learn"
        )
    return [f"epoch {metrics['epoch']}: {text}." for text in found]


def schedule_notice(config: Config, step: int, num_batches: int, before: int) -> str:
    """Say what becomes of a learning rate whose schedule was that of another number of epochs.

    Args:
        config: of the run, with the number of epochs from here on.
        step: the run is at.
        num_batches: of an epoch.
        before: number of epochs up to here.
    """
    settings, epochs = config.optimizer, config.run.epochs
    schedule = SCHEDULES[settings.schedule]
    old, new = (float(schedule(settings.learning_rate, n * num_batches)(step)) for n in (before, epochs))
    return (
        f"optimizer.schedule = {settings.schedule}: up to step {step} the schedule for {before} epochs was "
        f"used (learning rate {old:.3g}); from here on, the schedule for {epochs} epochs is used (learning "
        f"rate {new:.3g}). A run of {epochs} epochs from the start would give different results."
    )


def _rounding_notices(config: Config) -> list[str]:
    """Say that nudges are so small that rounding shows; measures in float64 do not."""
    radius = config.gradient.beta_radius
    if radius >= SMALLEST_RADIUS or not estimator_of(config.gradient.method).magnifies_rounding:
        return []
    return [
        f"gradient.beta_radius = {radius:g}: {config.gradient.method} divides float32 rounding errors by "
        "|β|, which changes gradients by about 1e-6/|β| of their size (METHOD §3). hep measure-asymmetry, in "
        f"float64, does not show this. Use {SMALLEST_RADIUS:g} or more, or hep_exact, which takes no nudge."
    ]


def _adjoint_notices(config: Config) -> list[str]:
    """Say that iterated adjoints grow without bounds in examples that have not settled."""
    method, steps = config.gradient.method, config.gradient.adjoint_steps
    learns = config.relaxation.unsettled == "learn"
    if not estimator_of(method).iterates_adjoint or not learns or steps <= MOST_ADJOINT_STEPS:
        return []
    return [
        f"gradient.method = {method}: where an example has not settled, its adjoint may grow with each of "
        f"the {steps} iterations, and a few such examples can undo what is learned from others (METHOD §3). "
        "Use relaxation.unsettled=skip, or gradient.adjoint_steps=20, as the published code does on "
        "Fashion-MNIST."
    ]


def _reach_notices(config: Config) -> list[str]:
    """Say which layers learn nothing, because the error signal does not come to them."""
    network, method = config.network, config.gradient.method
    flow, layers = traits_of(method).signal_flow, tuple(network.layers)
    settings, key, steps = _signal_steps(config)
    if flow == "at_once" or SOLVERS.is_own(settings.solver):
        return []
    pairs = zip(network.connections, network.connection_pairs, strict=True)
    edges = {name: pair for name, pair in pairs if pair[0] != INPUT}
    along = tuple(pair for name, pair in edges.items() if network.strength(name))
    against = tuple((post, pre) for pre, post in along)
    ways = {"along": along, "against": against, "both": (*along, *against)}[flow]
    grouped = tuple(edges.values())
    if flow == "both":
        grouped = (*grouped, *((post, pre) for pre, post in grouped))

    def unreached(steps: int) -> list[str]:
        reached = layers_reached(settings, layers, grouped, ways, steps, backwards=flow == "against")
        return [name for name in layers if name not in reached]

    most = 2 * len(layers) ** 2  # enough for any solver: every pass comes to one more
    never = unreached(most)
    late = [name for name in unreached(steps) if name not in never]
    notices = []
    if never:
        instead = ", or use rbp or bptt, whose signal goes against connections" if flow == "along" else ""
        notices.append(
            f"gradient.method = {method}: no connections of a strength above 0 lead the error signal from "
            f"out to {_learning_nothing(never)}. Add feedback connections{instead}."
        )
    if late:
        fewest = next(count for count in range(steps, most + 1) if unreached(count) == never)
        notices.append(
            f"{key} = {steps}: the error signal needs {fewest} from out to {_learning_nothing(late)}."
        )
    return notices


def _signal_steps(config: Config) -> tuple[RelaxationSettings, str, int]:
    """By what settings an error signal spreads, what limits its steps, and how many these are."""
    relaxation, gradient = config.relaxation, config.gradient
    settings, nudged, adjoint = relaxation.nudged, "relaxation.nudged_steps", "gradient.adjoint_steps"
    if gradient.method == "dyadic_ep":
        return relaxation, "relaxation.free_steps", relaxation.free_steps
    if gradient.method == "online_hep":
        points = gradient.num_points * gradient.online_cycles
        return settings, f"{nudged} over {points} points", points * relaxation.nudged_steps
    if gradient.method == "neumann_rbp":  # a series of steps of all layers at once, after its first term
        return replace(settings, solver="synchronous"), f"{adjoint} + 1", gradient.adjoint_steps + 1
    if traits_of(gradient.method).iterates_adjoint:
        return settings, adjoint, gradient.adjoint_steps
    return settings, nudged, relaxation.nudged_steps


def _learning_nothing(layers: list[str]) -> str:
    """Layers, and what becomes of them."""
    return f"{', '.join(layers)}, so that kernels into {'it' if len(layers) == 1 else 'them'} do not learn"
