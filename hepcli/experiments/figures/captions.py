"""Names in figures and tables: symbols as in the paper, data sets in full, settings in short."""

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress

from hepcli.config import Config
from hepcli.settings import ESTIMATORS, GradientSettings

_SYMBOLS = {
    "gradient.beta_radius": "|β|",
    "gradient.num_points": "N",
    "homeostasis.weight": "λ",
    "network.initial_angle_deg": "α / °",
}
_BY_NAME = {key.rpartition(".")[2]: symbol for key, symbol in _SYMBOLS.items()}
_DATASETS = {
    "fashion_mnist_mini": "Fashion-MNIST mini (5,000 + 1,000 images)",
    "fashion_mnist": "Fashion-MNIST (full)",
    "mnist": "MNIST",
    "kmnist": "Kuzushiji-MNIST",
    "svhn_cropped": "SVHN",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "imagenet32": "ImageNet 32×32",
}


def symbol_of(name: str) -> str:
    """What figures and tables call a key, the last part of one, or an axis of a sweep.

    Args:
        name: such as `gradient.beta_radius`, `num_points:beta_radius` or `|beta|`.

    Returns:
        The paper's symbol where there is one, with its unit; the words with spaces for `_` else.
    """
    if ":" in name:
        return ", ".join(symbol_of(part) for part in name.split(":"))
    symbol = _SYMBOLS.get(name) or _BY_NAME.get(name)
    return symbol or with_symbols(name.replace("_", " "))


def with_symbols(text: str) -> str:
    """Text in which |beta|, lambda and names of methods are written as in the paper."""
    for spelled, written in (("|beta|", "|β|"), ("lambda", "λ"), ("hep_exact", "hep exact")):
        text = text.replace(spelled, written)
    return text.replace("_", " ") if text in ESTIMATORS else text


def assigned_symbol(name: str, label: str) -> str:
    """A place on an axis in words: `N = 2`, `α = 45°`."""
    symbol, shown = symbol_of(name), shown_label(label)
    return f"{symbol.removesuffix(' / °')} = {shown}°" if symbol.endswith(" / °") else f"{symbol} = {shown}"


def in_words(name: str, label: str) -> str:
    """A place where its axis is not in sight: a number, true or false with the axis, a word alone."""
    says_nothing = is_number(label) or label in ("true", "false")
    return assigned_symbol(name, label) if says_nothing else with_symbols(label)


def is_number(label: str) -> bool:
    """Whether a label is a number."""
    with suppress(ValueError):
        return math.isfinite(float(label))
    return False


def shown_label(label: str) -> str:
    """A place on an axis as tables and legends show it: 1 for 1.0."""
    return label.removesuffix(".0") if label.removesuffix(".0").isdigit() else with_symbols(label)


def dataset_title(name: str) -> str:
    """A data set in words, mini or full."""
    return _DATASETS.get(name, name)


def method_of(gradient: GradientSettings, uses_circle: bool) -> str:
    """An estimator in short, with N and |β| where it nudges on a circle."""
    name = gradient.method.replace("_", " ")
    return f"{name}, N = {gradient.num_points}, |β| = {gradient.beta_radius:g}" if uses_circle else name


def settings_of(config: Config, uses_circle: bool) -> str:
    """The settings of a run that its figures depend on, in short."""
    relaxation, weight = config.relaxation, config.homeostasis.weight
    parts = [
        dataset_title(config.data.name),
        method_of(config.gradient, uses_circle),
        f"λ = {weight:g}",
        f"α = {config.network.initial_angle_deg:g}°",
        f"{relaxation.free_steps} free and {relaxation.nudged_steps} nudged steps",
        f"{relaxation.solver} solver",
        f"seed {config.run.seed}",
    ]
    return "; ".join(parts)


def listed(values: Iterable[int]) -> str:
    """Integers in short: 0–4, 7."""
    groups: list[list[int]] = []
    for value in sorted(set(values)):
        if groups and value == groups[-1][-1] + 1:
            groups[-1].append(value)
        else:
            groups.append([value])
    return ", ".join(f"{one[0]}–{one[-1]}" if len(one) > 1 else f"{one[0]}" for one in groups)


def seeds_text(seeds: Iterable[int]) -> str:
    """`seed 0` or `seeds 0–4`."""
    different = set(seeds)
    return f"{'seed' if len(different) == 1 else 'seeds'} {listed(different)}"


IN_VIEW: Mapping[str, tuple[float, ...]] = {
    "error": (0.0,),
    "share": (0.0,),
    "loss": (0.0,),
    "angle": (0.0, 90.0),
    "cosine": (0.0, 1.0),
    "symmetry": (0.0, 1.0),
}
"""What stays in view of an axis, by the kind of its values, so that small differences look small."""

RIGHT_ANGLE = (0.0, 30.0, 60.0, 90.0)
"""Ticks of angles, in degrees."""

RESIDUAL_SPAN = (-8.0, -6.0)
"""What stays in view of log10 residuals, whose floor is -8: steps within rounding are no changes."""


_MOST_DECIMALS = 5


def number_format(size: float, spread: float | None = None) -> str:
    """How to write numbers of a size: to two decimals, or two digits of a spread that these would not show.

    Args:
        size: of the largest of them.
        spread: how far they are from each other, such as their standard deviation; None or 0 without.

    Returns:
        A format specification.
    """
    size = abs(size)
    if not spread:
        return ".2f" if 1 <= size < 1000 else ".4g"
    shows_spread = 1 <= size < 1000 and spread >= 0.01
    decimals = 2 if shows_spread else max(1 - math.floor(math.log10(spread)), 0 if size >= 1000 else 2)
    return f".{decimals}f" if decimals <= _MOST_DECIMALS else ".3g"
