"""Tables of RESULTS.md, made of presets/results/ between a pair of comments for each sweep."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from hepcli.experiments.figures.captions import in_words
from hepcli.experiments.sweeps.cells import half_interval
from tests.results.records import FOLDER

RESULTS = FOLDER.parent / "RESULTS.md"
_LAST = 10
SIGNALS = {
    "radius_median": "spectral radius of a synchronous step, median",
    "radius_99": "spectral radius, 99 % quantile",
    "gain_median": "signal over output error, median",
    "gain_99": "signal over output error, 99 % quantile",
    "rank_correlation_gain": "rank correlation of that ratio with the spectral radius",
    "rank_correlation_error": "rank correlation of signal and output error",
    "share_of_top_hundredth": "share of the signal of the hundredth with the largest",
    "settled_among_top": "settled among that hundredth (20 examples a network)",
    "unsettled": "examples that do not settle",
    "share_of_unsettled": "their share of the signal",
    "near_critical": "examples with a radius above 0.97",
    "share_near_critical": "their share of the signal",
}
"""What `tests.results.signals` measures, in words."""
_UNKNOWN = "–"


def rewritten(text: str) -> str:
    """The text with every table made anew."""
    pattern = re.compile(r"(<!-- table of ([\w-]+) -->\n).*?(<!-- end of table -->)", re.S)
    return pattern.sub(lambda found: found[1] + table(found[2]) + found[3], text)


def table(name: str) -> str:
    """The table of presets/results/NAME.json, in Markdown, with what differs seed by seed below it."""
    record = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    if "groups" in record:
        return "\n".join(_measured(dict(sorted(record["groups"].items())))) + "\n"
    parts = [*_facts(record)]
    for epoch in record["show"]:
        if across := record.get("across"):
            parts += [*_crossed(record["runs"], across, epoch), ""]
            continue
        groups = _groups(record["runs"], epoch)
        parts += [*_table(groups, epoch), ""]
        if within := record.get("within"):
            parts += [*_within(record["runs"], within, record["against"], epoch), ""]
        else:
            parts += [*_differences(groups, record.get("against") or next(iter(groups), ""), epoch)]
    return "\n".join(parts) + "\n"


def _facts(record: dict[str, Any]) -> Iterator[str]:
    count, hours = len(record["runs"]), sum(run["minutes"] for run in record["runs"]) / 60
    what = f"{count} runs, {hours:.1f} hours"
    yield f"`{record['command']}`, commit `{record['commit']}`, {what}. {record['machine']}"
    yield ""


Groups = dict[str, dict[int, dict[str, Any]]]
"""Row of a table to seed to run."""


def _crossed(runs: Sequence[dict[str, Any]], across: str, epoch: int) -> Iterator[str]:
    """Test errors with one axis across the top, then what they differ by from its first label.

    Where cells have fewer seeds than others, their number stands behind them.
    """
    cells = _cells(runs, across, epoch, lambda run: run["test_error"][epoch - 1])
    first, *rest = next(iter(cells.values()))
    title, *titles = (in_words(across, label) for label in (first, *rest))
    yield f"| test error after {epoch} epochs / % | {' | '.join(map(_escaped, (title, *titles)))} |"
    yield f"|---|---|{'---|' * len(rest)}"
    most = max(len(errors) for row in cells.values() for errors in row.values())
    for name, row in cells.items():
        errors = [list(row.get(label, {}).values()) for label in (first, *rest)]
        spreads = [_spread(one) + (f" ({len(one)})" if 0 < len(one) < most else "") for one in errors]
        yield f"| {_escaped(name)} | {' | '.join(spreads)} |"
    gaps = {
        name: [_paired(row.get(label, {}), row.get(first, {})) for label in rest]
        for name, row in cells.items()
    }
    if not any(gap != _UNKNOWN for row in gaps.values() for gap in row):
        return
    yield ""
    interval = "mean and its 95 % confidence interval, paired by seed (paired t):"
    yield f"Difference from {title}, in points: {interval}"
    yield ""
    yield f"| | {' | '.join(map(_escaped, titles))} |"
    yield f"|---|{'---|' * len(rest)}"
    for name, found in gaps.items():
        yield f"| {_escaped(name)} | {' | '.join(found)} |"


def _cells(
    runs: Sequence[dict[str, Any]], across: str, epoch: int, value: Callable[[dict[str, Any]], float]
) -> dict[str, dict[str, dict[int, float]]]:
    """Row of a table to label of the axis across its top to seed to value, of the runs that got so far."""
    cells: dict[str, dict[str, dict[int, float]]] = {}
    for run in runs:
        if run["epochs"] >= epoch:
            others = {axis: label for axis, label in run["labels"].items() if axis != across}
            row = cells.setdefault(_row(others), {})
            row.setdefault(run["labels"][across], {})[run["seed"]] = value(run)
    return cells


def _interval(gaps: Sequence[float]) -> tuple[str, str, str]:
    """Mean, and the bounds of its confidence interval."""
    half = half_interval(gaps)
    return _signed(mean(gaps)), _signed(mean(gaps) - half), _signed(mean(gaps) + half)


def _groups(runs: Sequence[dict[str, Any]], epoch: int) -> Groups:
    groups: Groups = {}
    for run in runs:
        if run["epochs"] >= epoch:
            groups.setdefault(_row(run["labels"]), {})[run["seed"]] = run
    return dict(sorted(groups.items()))


def _row(labels: dict[str, str]) -> str:
    """Such as N = 2, |β| = 0.05: a number goes with its axis, words stand for themselves."""
    return ", ".join(in_words(axis, label) for axis, label in labels.items())


def _table(groups: Groups, epoch: int) -> Iterator[str]:
    first = max(1, epoch - _LAST + 1)
    yield (
        f"| after {epoch} epochs | seeds | test error / % | mean of epochs {first}–{epoch} / % "
        "| training error / % | weight angle / ° | homeostatic loss | unsettled share of the signal / % |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for row, runs in groups.items():
        cells = [
            _spread([_at(run, "test_error", epoch) for run in runs.values()]),
            _spread([_over(run, epoch) for run in runs.values()]),
            _spread([_at(run, "train_error", epoch) for run in runs.values()]),
            _spread([_at(run, "weight_angle_deg", epoch) for run in runs.values()], ".1f"),
            _spread([_at(run, "homeostatic_loss", epoch) for run in runs.values()], ".2g"),
            _spread([_at(run, "unsettled_share", epoch, 100) for run in runs.values()], ".2g"),
        ]
        seeds = ", ".join(map(str, sorted(runs)))
        yield f"| {' | '.join((_escaped(row), seeds, *cells))} |"


def _differences(groups: Groups, against: str, epoch: int) -> Iterator[str]:
    """Against one row, over the seeds that both have: mean and confidence interval, paired."""
    base = groups[against] if groups else {}
    for row, runs in groups.items():
        seeds = sorted(base.keys() & runs.keys())
        if row == against or len(seeds) < 2:
            continue
        gaps = [_over(runs[seed], epoch) - _over(base[seed], epoch) for seed in seeds]
        middle, low, high = _interval(gaps)
        yield (
            f"{row} minus {against}, mean over those epochs, paired by seed: {middle} points (95 % "
            f"confidence interval {low} to {high}, paired t, {len(gaps)} seeds)."
        )
        yield ""


def _within(runs: Sequence[dict[str, Any]], within: str, against: str, epoch: int) -> Iterator[str]:
    """Against the row of one label, apart for each label of an axis: its labels stand across the top."""
    cells = _cells(runs, within, epoch, lambda run: _over(run, epoch))
    base = cells.pop(against)
    first = max(1, epoch - _LAST + 1)
    yield (
        f"Difference from {against}, in points, mean of epochs {first}–{epoch}: mean and its 95 % confidence "
        "interval, paired by seed (paired t):"
    )
    yield ""
    yield f"| | {' | '.join(sorted(base))} |"
    yield f"|---|{'---|' * len(base)}"
    for name, row in sorted(cells.items()):
        gaps = [_paired(row.get(label, {}), errors) for label, errors in sorted(base.items())]
        yield f"| {_escaped(name)} | {' | '.join(gaps)} |"


def _paired(errors: dict[int, float], base: dict[int, float]) -> str:
    """Such as −1.27 (−1.89 to −0.65), over the seeds that both have."""
    gaps = [errors[seed] - base[seed] for seed in sorted(errors.keys() & base.keys())]
    if len(gaps) < 2:
        return _UNKNOWN
    middle, low, high = _interval(gaps)
    return f"{middle} ({low} to {high})"


def _escaped(text: str) -> str:
    return text.replace("|", r"\|")


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _measured(groups: dict[str, list[dict[str, float]]]) -> Iterator[str]:
    """A line for each number of `tests.results.signals`, a column for each condition."""
    yield f"| mean ± sd over seeds | {' | '.join(groups)} |"
    yield f"|---|{'---|' * len(groups)}"
    for key, title in SIGNALS.items():
        cells = [_spread([run[key] for run in runs], ".3g") for runs in groups.values()]
        yield f"| {title} | {' | '.join(cells)} |"


def _at(run: dict[str, Any], curve: str, epoch: int, scale: float = 1.0) -> float | None:
    value = run[curve][epoch - 1]
    return None if value is None else scale * value


def _over(run: dict[str, Any], epoch: int) -> float:
    return mean(run["test_error"][max(0, epoch - _LAST) : epoch])


def _spread(values: Sequence[float | None], pattern: str = ".2f") -> str:
    """Mean ± sample standard deviation of what is defined."""
    known = [value for value in values if value is not None]
    if not known:
        return _UNKNOWN
    spread = f" ± {stdev(known):{pattern}}" if len(known) > 1 else ""
    return f"{mean(known):{pattern}}{spread}"


def write() -> Path:
    """Make all tables of RESULTS.md anew."""
    RESULTS.write_text(rewritten(RESULTS.read_text(encoding="utf-8")), encoding="utf-8")
    return RESULTS
