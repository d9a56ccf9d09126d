"""Which of the keys in which runs differ best tell them apart, where they were not planned together."""

from collections.abc import Iterable, Mapping, Sequence

from hepcli.config import OUTSIDE_HASH
from hepcli.settings import did_you_mean

_FIRST = (
    "data.name",
    "gradient.method",
    "gradient.num_points",
    "gradient.beta_radius",
    "homeostasis.weight",
    "network.initial_angle_deg",
    "network.activation",
    "relaxation.solver",
    "relaxation.unsettled",
    "relaxation.free_steps",
    "relaxation.nudged_steps",
    "relaxation.noise_std",
    "optimizer.name",
    "optimizer.learning_rate",
    "optimizer.feedback_learning",
    "run.epochs",
)
"""Keys that are named before others, where either would tell runs apart."""

_WITHOUT_EFFECT = ("checkpoints.", *OUTSIDE_HASH, "run.measure_examples", "data.eval_batch_size")
_LITTLE_EFFECT = ("data.accumulate", "network.connections", "network.kernels", "network.layers.")
"""Named only where nothing else tells runs apart: numbers stay, or labels are long."""

Flat = Mapping[str, object]


def telling_keys(configs: Sequence[Flat], ignored: str) -> list[str]:
    """The fewest keys, the plainest first, that tell the configurations apart.

    What follows from a key that is named already, such as a learning rate that differs with the method,
    is not named again.

    Args:
        configs: dotted key to value.
        ignored: key that never counts, that of the seed.

    Returns:
        Keys, none where nothing that matters differs.
    """
    found: list[str] = []
    for key in _candidates(configs, ignored):
        by = [*found, ignored] if key.startswith(_WITHOUT_EFFECT) else found  # one run a seed is enough then
        if _classes(configs, [*by, key]) > _classes(configs, by):
            found.append(key)
    return found


def mixed_keys(configs: Sequence[Flat], keys: Sequence[str], ignored: str) -> list[str]:
    """The keys by which runs differ that share all of `keys`."""
    return [
        key
        for key in telling_keys(configs, ignored)
        if _classes(configs, [*keys, key]) > _classes(configs, keys)
    ]


def unnamed_keys(configs: Sequence[Flat], keys: Sequence[str], ignored: str) -> list[str]:
    """What else differs and may matter, beside `keys`: those of layers as one."""
    differing = [
        "network.layers" if key.startswith("network.layers.") else key
        for key in _candidates(configs, ignored)
        if key not in keys and not key.startswith((*_WITHOUT_EFFECT, "data.accumulate"))
    ]
    return list(dict.fromkeys(differing))


def structural_keys(configs: Sequence[Flat], keys: Sequence[str]) -> list[str]:
    """Those of `keys` that say which layers and connections there are: no label says that in short."""
    return [
        key
        for key in keys
        if key == "network.connections"
        or (key.startswith(("network.kernels", "network.layers.")) and not all(key in one for one in configs))
    ]


def unknown_key(configs: Sequence[Flat], keys: Iterable[str]) -> str | None:
    """What is wrong with the first of the keys that no run has; None where all are known."""
    known = list(dict.fromkeys(key for one in configs for key in one))
    for key in keys:
        if key not in known:
            return f"there is no key {key}{did_you_mean(key, known)}"
    return None


def _candidates(configs: Sequence[Flat], ignored: str) -> list[str]:
    keys = dict.fromkeys(key for one in configs for key in one)
    differing = [key for key in keys if key != ignored and _classes(configs, [key]) > 1]
    return sorted(differing, key=_rank)


def _rank(key: str) -> int:
    if key in _FIRST:
        return _FIRST.index(key)
    late = key.startswith(_WITHOUT_EFFECT) * 2 or key.startswith(_LITTLE_EFFECT)
    return len(_FIRST) + late


def _classes(configs: Sequence[Flat], keys: Sequence[str]) -> int:
    """Into how many classes the keys divide the configurations."""
    return len({tuple(repr(one.get(key)) for key in keys) for one in configs})
