"""`hep eval`."""

import json
from typing import Any

import typer
from rich.table import Table
from rich.text import Text

from hepcli.cli._errors import handle_errors
from hepcli.cli._help import examples
from hepcli.cli._options import (
    Best,
    Checkpoint,
    Code,
    DataDir,
    Json,
    Settings,
    SplitChoice,
    SplitName,
    Step,
    chosen_step,
)
from hepcli.cli._stderr import StderrConsole, attempt, say
from hepcli.cli._tables import error_percent

EPILOG = examples(
    "hep eval runs/n4",
    "hep eval runs/n4 --split train --set relaxation.free_steps=500 --json",
)

_TITLES = {
    "dataset": "data set",
    "top1": "error",
    "top5": "top-5 error",
    "log10_residual": "log10 residual",
    "converged": "settled",
    "nonfinite": "non-finite",
}
"""What the screen calls the keys of --json, where it says something else: errors for accuracies."""


_LEGEND = """log10 residual: mean of log10 ‖F(u)‖ after the free phase; settled: examples
whose residual is small enough to count as a fixed point; non-finite: examples
whose state overflowed"""


@handle_errors
def eval_command(
    checkpoint: Checkpoint,
    split: SplitName = SplitChoice.TEST,
    step: Step = None,
    best: Best = False,
    settings: Settings = None,
    data_dir: DataDir = None,
    code: Code = None,
    as_json: Json = False,
) -> None:
    """Evaluate a saved network: loss, error, top-5 error, residual and share of settled examples."""
    from hepcli.experiments.evaluate import evaluate

    chosen = chosen_step(step, best=best)
    record, notices = evaluate(checkpoint, split.value, chosen, settings or (), data_dir, code or ())
    for notice in notices:
        say(notice)
    if as_json:
        typer.echo(json.dumps(record, indent=2, allow_nan=False))
    else:
        _show(record)


def _show(record: dict[str, Any]) -> None:
    table = Table(box=None, show_header=False)
    for key, value in record.items():
        if key != "checkpoint":  # below, on stdout
            table.add_row(_TITLES.get(key, key), Text(_format(key, value)))
    console = StderrConsole(soft_wrap=True)
    attempt(lambda: console.print(table))
    say(_LEGEND)
    typer.echo(record["checkpoint"])


def _format(key: str, value: Any) -> str:
    if value is None:
        return "–"
    if key in ("top1", "top5"):
        return f"{error_percent(value)} %"
    if key == "converged":
        return f"{100 * value:.2f} %"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
