"""What a search came to: its trials from the best on, their history, and which axes mattered."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from hepcli.experiments.figures.captions import IN_VIEW, number_format, seeds_text, symbol_of
from hepcli.experiments.figures.data import FigureData, Panel, Scale, Series, numbers
from hepcli.experiments.sweeps.claims import DONE
from hepcli.experiments.sweeps.collection import value_title
from hepcli.experiments.sweeps.search import Search
from hepcli.experiments.sweeps.study import Result, importances

_STATES = ("done", "pruned", "failed", "running", "waiting")


def ranking(search: Search, results: Sequence[Result]) -> list[Result]:
    """The trials from the best on; behind those that are complete the others, as they were begun."""
    sign = 1 if search.settings.direction == "minimize" else -1

    def key(result: Result) -> tuple[int, float, int]:
        is_complete = result.state == DONE and result.value is not None
        value = sign * result.value if is_complete and result.value is not None else 0.0
        return (0 if is_complete else 1, value, result.trial.number)

    return sorted(results, key=key)


def search_header(search: Search) -> tuple[str, ...]:
    """The columns of the table."""
    axes = (axis.name for axis in search.definition.axis)
    return ("rank", "trial", *axes, value_title(search.settings.objective), "state")


def search_row(rank: int, result: Result) -> tuple[str, ...]:
    """A trial in the table; only what is complete has a rank."""
    place = str(rank) if result.state == DONE else "–"
    value = "–" if result.value is None else format(result.value, number_format(result.value))
    return (place, str(result.trial.number), *map(str, result.trial.places.values()), value, result.state)


def search_csv(search: Search, results: Sequence[Result]) -> str:
    """A line a trial, as they were begun; what is undefined is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", *(axis.name for axis in search.definition.axis), "value", "state"])
    for result in results:
        value = "" if result.value is None else repr(result.value)
        writer.writerow([result.trial.number, *result.trial.places.values(), value, result.state])
    return text.getvalue()


def search_record(search: Search, results: Sequence[Result]) -> dict[str, Any]:
    """What table.json holds, and --json prints."""
    settings, states = search.settings, [result.state for result in results]
    ranked = ranking(search, results)
    best = ranked[0] if ranked and ranked[0].state == DONE else None
    return {
        "title": search.definition.sweep.title,
        "value": settings.objective,
        "search": settings.model_dump(),
        "trials": {state: states.count(state) for state in _STATES},
        "best": None if best is None else _trial(search, best),
        "importance": importances(settings, search.definition.axis, results),
        "history": [_trial(search, result) for result in results],
    }


def _trial(search: Search, result: Result) -> dict[str, Any]:
    runs = [str(search.folder.run(point).path) for point in result.trial.points]
    return {
        "trial": result.trial.number,
        "places": dict(result.trial.places),
        "value": result.value,
        "state": result.state,
        "runs": runs,
        "error": result.error,
    }


def search_note(record: dict[str, Any]) -> str:
    """Below the table: the best trial, and how much each axis mattered."""
    best, shares = record["best"], record["importance"]
    if best is None:
        return "No trial is complete."
    where = ", ".join(f"{axis} {place}" for axis, place in best["places"].items())
    title = value_title(record["value"])
    unit = " %" if title.endswith(" / %") else ""
    value = f"{title.removesuffix(' / %')} {best['value']:.4g}{unit}"
    note = f"Best: trial {best['trial']} ({where}), {value}."
    if known := [f"{axis} {share:.0%}" for axis, share in shares.items() if share is not None]:
        note += f" Importance: {', '.join(known)}."
    if unknown := [axis for axis, share in shares.items() if share is None]:
        note += f" Importance that may be chance: {', '.join(unknown)}."
    return note


def search_figure(search: Search, results: Sequence[Result], record: dict[str, Any]) -> FigureData:
    """The objective over the trials with the best so far, and the importance of the axes."""
    settings = search.settings
    over = [result for result in results if result.state == DONE and result.value is not None]
    best: list[float] = []
    choose = min if settings.direction == "minimize" else max
    for result in over:
        if result.value is not None:
            best.append(choose([*best[-1:], result.value]))
    trials = numbers(result.trial.number for result in over)
    errors = settings.objective in ("validation_error", "train_error")
    history = Panel(
        kind="curves",
        x=Scale(label="trial", integer=True),
        y=Scale(label=value_title(settings.objective), include=IN_VIEW["error"] if errors else ()),
        series=(
            Series(label="trial", x=trials, y=numbers(result.value for result in over)),
            Series(label="best so far", x=trials, y=numbers(best)),
        ),
        note="no complete trial",
    )
    shares = {axis: share for axis, share in record["importance"].items() if share is not None}
    places = tuple(float(place) for place in range(len(shares)))
    importance = Panel(
        kind="bars",
        x=Scale(ticks=places, names=tuple(map(symbol_of, shares))),
        y=Scale(label="importance", include=(0.0, 1.0)),
        series=(Series(x=places, y=numbers(shares.values())),),
    )
    caption = f"{settings.sampler}, {len(over)} complete trials, {seeds_text(search.definition.sweep.seeds)}"
    panels = (history, importance) if shares else (history,)
    return FigureData(
        title=search.definition.sweep.title or "search", caption=caption, panels=panels, columns=2
    )
