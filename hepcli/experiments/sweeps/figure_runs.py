"""Which runs a figure shows: those of its lines and means, and the caption that says so."""

from collections.abc import Sequence

from hepcli.config import ABSENT
from hepcli.experiments.figures.captions import (
    assigned_symbol,
    dataset_title,
    in_words,
    seeds_text,
    symbol_of,
)
from hepcli.experiments.sweeps.collection import Collection, Outcome

_MOST_UNNAMED = 4  # keys in a caption


def caption_of(result: Collection) -> str:
    """Data sets, epochs and seeds of the runs that are shown, and what bars and bands are."""
    done = [outcome.summary for outcome in result.outcomes if outcome.summary is not None]
    shown = shown_runs(result, result.outcomes)
    if not shown:
        return "no finished run"
    datasets = dict.fromkeys(str(one["dataset"]) for one in done if "dataset" in one)
    epochs = sorted({_num_epochs(one) for one in shown} - {0})
    parts = [", ".join(map(dataset_title, datasets))]
    if epochs:
        span = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
        parts.append(f"{span} epoch{'' if epochs == [1] else 's'}")
    seeds = {outcome.seed for outcome in shown}
    means = _means(result, shown)
    each = sorted({len({outcome.seed for outcome in runs}) for runs in means})
    number = f"{each[0]}" if len(each) == 1 else f"{each[0]} to {each[-1]}"
    parts.append(seeds_text(seeds) + (f" ({number} per condition)" if each[0] < len(seeds) else ""))
    if max(map(len, means)) > 1:
        parts.append("mean ± sample standard deviation")
    if result.figure.kind == "curves" and _lengths_differ(result):
        parts.append("late epochs: only the runs that reached them")
    pending, every = len(result.outcomes) - len(done), len(result.outcomes)
    if pending and len(shown) > len(done):
        parts.append(f"{pending} of {every} runs not finished")
    elif pending:
        parts.append(f"only the {len(done)} finished runs of {every}")
    if result.unnamed:
        some, rest = result.unnamed[:_MOST_UNNAMED], len(result.unnamed) - _MOST_UNNAMED
        names = ", ".join(map(symbol_of, some))
        parts.append(f"the runs also differ in {names}" + (f" and {rest} more keys" if rest > 0 else ""))
    return "; ".join(filter(None, parts))


def _means(result: Collection, shown: Sequence[Outcome]) -> list[list[Outcome]]:
    """The runs of each mean: those that share a line, a facet and a place on the axis."""
    view = result.figure
    axes = [axis for axis in (*view.series, view.x, view.facet) if axis in result.axes]
    means: dict[tuple[str, ...], list[Outcome]] = {}
    for one in shown:
        means.setdefault(tuple(one.labels[axis] for axis in axes), []).append(one)
    return list(means.values())


def shown_runs(result: Collection, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Of some runs those that are shown: the finished ones, or with `with_unfinished` as curves all."""
    all_begun = result.figure.kind == "curves" and result.with_unfinished
    return [one for one in outcomes if one.summary is not None or (all_begun and one.history)]


def _num_epochs(outcome: Outcome) -> int:
    """Epochs that are done."""
    return int(outcome.history[-1]["epoch"]) if outcome.history else 0


def _lengths_differ(result: Collection) -> bool:
    """Whether a mean is one of fewer runs in late epochs."""
    lines = lines_of(result).values()
    return any(len({_num_epochs(one) for one in shown_runs(result, line)}) > 1 for line in lines)


def lines_of(result: Collection) -> dict[str, list[Outcome]]:
    """The runs of each line, named by the labels that they share."""
    lines: dict[str, list[Outcome]] = {}
    for outcome in result.outcomes:
        labels = [(axis, outcome.labels[axis]) for axis in result.figure.series]
        names = [_named(result, axis, label) for axis, label in labels if label != ABSENT]
        lines.setdefault(", ".join(names), []).append(outcome)
    return lines


def _named(result: Collection, axis: str, label: str) -> str:
    """A place in a legend: a word alone only where no other axis of the series has it, too."""
    is_shared = sum(label in result.axes[name] for name in result.figure.series) > 1
    return assigned_symbol(axis, label) if is_shared else in_words(axis, label)
