"""What is kept of a sweep: the curves of its runs, in a file that git can hold."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "presets" / "results"
_DIGITS = 5


def collect(sweep: Path, name: str, **facts: Any) -> Path:
    """Keep a sweep's runs, finished or not, as presets/results/NAME.json.

    Args:
        sweep: folder of the sweep.
        name: of the file; one that is there keeps the facts that are not given again, and the runs that
            the sweep lacks.
        facts: what stands above the table: `command`, `commit`, `machine`; `show`, the epochs to tabulate;
            `across`, an axis whose labels stand across the top, for a table of test errors alone;
            `against`, the row that differences are from, the first unless given; with `within`, an axis, a
            label of another one, apart for each label of the axis.

    Returns:
        The file.
    """
    file = FOLDER / f"{name}.json"
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"runs": []}
    runs = {_place(run): run for run in before.pop("runs")}
    for point in json.loads((sweep / "points.json").read_text(encoding="utf-8")):
        folder = sweep / "runs" / point["folder"]
        if (run := _run(folder, point))["epochs"]:
            runs[_place(point)] = run
    given = {key: value for key, value in facts.items() if value}
    kept = {"sweep": name, **before, **given, "runs": list(runs.values())}
    FOLDER.mkdir(exist_ok=True)
    lines = ",\n".join(f"  {json.dumps(run, ensure_ascii=False)}" for run in kept.pop("runs"))
    head = json.dumps(kept, ensure_ascii=False, indent=1)[:-2]
    file.write_text(f'{head},\n "runs": [\n{lines}\n ]\n}}\n', encoding="utf-8")
    return file


def _place(run: dict[str, Any]) -> tuple[object, ...]:
    """Where a run stands in the table: a point whose settings have changed takes the place of the old one."""
    return *sorted(run["labels"].items()), run["seed"]


def _run(folder: Path, point: dict[str, Any]) -> dict[str, Any]:
    lines, times = (_lines(folder / name) for name in ("metrics.jsonl", "timing.jsonl"))
    curves = {
        "test_error": [_percent(line["test"]["top1"]) for line in lines],
        "train_error": [_percent(line["train"]["top1"]) for line in lines],
        "weight_angle_deg": [_short(line["weight_angle_deg"]) for line in lines],
        "homeostatic_loss": [_short(line["homeostatic_loss"]) for line in lines],
        "unsettled_share": [_short(line["train"]["unsettled_signal_share"]) for line in lines],
        "test_settled": [_short(line["test"]["settled"]) for line in lines],
    }
    measured = [line.get("asymmetry") or {} for line in lines]  # an epoch whose measures failed has none
    if any(measured):  # with run.measure_examples
        curves["jacobian_symmetry"] = [_short(one.get("jacobian_symmetry")) for one in measured]
        curves["signal_cosine"] = [_short(one.get("cosine", {}).get("total")) for one in measured]
        curves["gradient_cosine"] = [_short(one.get("gradient_cosine")) for one in measured]
    return {
        "labels": point["labels"],
        "seed": point["seed"],
        "hash": point["hash"],
        "epochs": len(lines),
        "minutes": round(sum(one["seconds"] or 0 for one in times) / 60, 1),
        **curves,
    }


def _lines(file: Path) -> list[dict[str, Any]]:
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return [json.loads(line) for line in text.splitlines()]


def _percent(accuracy: float) -> float:
    return round(100 * (1 - accuracy), 3)


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")
