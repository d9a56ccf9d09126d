"""`hep measure-asymmetry`."""

import json
import math
from pathlib import Path
from typing import Annotated, Any, Self

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from hepcli.cli import _complete as complete
from hepcli.cli._errors import handle_errors
from hepcli.cli._help import examples
from hepcli.cli._options import (
    Code,
    DataDir,
    FigureFormat,
    Format,
    InitFrom,
    Json,
    Preset,
    Quiet,
    Seed,
    Settings,
    SplitChoice,
    SplitName,
    Step,
    user_path,
)
from hepcli.cli._stderr import StderrConsole, attempt, say
from hepcli.cli._tables import number, print_table

EPILOG = examples(
    "hep measure-asymmetry runs/n4 --all-steps",
    "hep measure-asymmetry --preset fashion-mnist",
    "hep measure-asymmetry --preset mine.toml --init-from weights.npz",
)

_BIASES = {"finite_nudge": "finite nudge", "asymmetry": "asymmetry", "total": "total"}
_COSINES = ("cos. finite", "cos. asymm.", "cos. total", "cos. grad.")
_LEGEND = """angle: weight angle, °; S: symmetry of the Jacobian; homeo.: homeostatic loss;
radius: spectral radius of one step; resid.: mean log10 residual; cos.: cosine
of the error signal with that of hep exact (finite), of hep exact's with the true
signal (asymm.), of the error signal with the true one (total), and of the
parameter gradient with that of bptt (grad.); test error in %; used: number of
examples used"""


@handle_errors
def measure_command(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            parser=user_path,
            metavar="CHECKPOINT",
            autocompletion=complete.runs,
            help="A run folder, its checkpoints/ folder, or one checkpoint in it.",
            show_default=False,
        ),
    ] = None,
    preset: Preset = None,
    init_from: InitFrom = None,
    seed: Seed = None,
    step: Step = None,
    all_steps: Annotated[bool, typer.Option("--all-steps", help="Measure every saved checkpoint.")] = False,
    examples: Annotated[
        int | None,
        typer.Option(
            "--examples",
            metavar="N",
            help="Number of examples, from the start of the split. Default: 256, or all if there are fewer.",
            show_default=False,
        ),
    ] = None,
    split: SplitName = SplitChoice.TEST,
    settings: Settings = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            parser=user_path,
            metavar="DIR",
            help="Folder for measures.json and figures. Default: asymmetry/ in the run folder; with "
            "--preset, a folder in runs/.",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    figure_format: Format = FigureFormat.PNG,
    code: Code = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure how far the error signal deviates from the gradient, and why.

    Splits the bias of the error signal into the part due to finite nudges (the run's estimator compared with
    hep exact) and the part due to asymmetry (hep exact compared with recurrent backpropagation). With
    --preset instead of CHECKPOINT, an untrained network is measured, or, with --init-from, one with given
    weights. Everything is computed in float64, but for the run's own free phase where
    `relaxation.free_precision` is lower.
    """
    from hepcli.experiments.measure import Measured, MeasureRequest, StepSkipped, measure
    from hepcli.experiments.measurement import StepMeasured

    request = MeasureRequest(
        checkpoint=checkpoint,
        preset=preset,
        init_from=init_from,
        seed=seed,
        step=step,
        all_steps=all_steps,
        examples=examples,
        split_name=split.value,
        overrides=settings or (),
        out=out,
        data_dir=data_dir,
        figure_format=figure_format.value,
        code=code or (),
    )
    records = []
    with _Waiting(quiet=quiet) as waiting:
        for outcome in measure(request, waiting.report):
            match outcome:
                case StepMeasured():
                    records.append(outcome.record)
                    for notice in outcome.notices:
                        waiting.say(notice)
                    if all_steps and not quiet:
                        waiting.say(_line(outcome.record))
                case StepSkipped():
                    waiting.say(f"Skipped: {outcome.reason}")
                case Measured():
                    result = outcome
                    for notice in outcome.notices:
                        waiting.say(notice)
    if not quiet:
        _show(records, along=all_steps)
        if drawn := [Path(file).stem for file in result.result["figures"]]:
            say(f"figures: {', '.join(drawn)} ({figure_format.value})")
    typer.echo(json.dumps(result.result, indent=2, allow_nan=False) if as_json else result.folder)


class _Waiting:
    """On a terminal, a line that says what is being measured and for how long; elsewhere nothing."""

    def __init__(self, *, quiet: bool) -> None:
        console = StderrConsole()
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_live,
        )
        self._task = self._bar.add_task("loading")

    def __enter__(self) -> Self:
        attempt(self._bar.start)
        return self

    def __exit__(self, *raised: object) -> None:
        attempt(self._bar.stop)

    def say(self, line: str) -> None:
        """Print a line for good, above what is being measured."""
        if self._bar.disable:
            say(line)
        else:
            attempt(lambda: self._bar.console.print(Text(line), soft_wrap=True))

    def report(self, line: str) -> None:
        """Say what is begun."""
        self._bar.update(self._task, description=line)


def _line(record: dict[str, Any]) -> str:
    return f"step {record['step']} measured: {record['examples_used']} of {record['examples']} examples used"


def _show(records: list[dict[str, Any]], *, along: bool) -> None:
    if along:
        print_table(_along_table(records))
        say(_LEGEND)
    else:
        say(_title(records[0]))
        print_table(_network_table(records[0]))
        say("\nBias of the error signal, mean ± standard error over examples:")
        print_table(_bias_table(records[0]))
        say("\nCosine of the parameter gradient with that of bptt (nudged_steps steps):")
        print_table(_gradient_table(records[0]))
    for note in dict.fromkeys(note for record in records for note in record["notes"]):
        say(note)


def _network_table(record: dict[str, Any]) -> Table:
    from hepcli.settings import MEASURES

    errors = record["standard_error"]
    table = Table(box=None, show_header=False)
    rows = [
        ("weight angle / °", number(record["weight_angle_deg"], ".2f")),
        *((f"  {name}", number(angle, ".2f")) for name, angle in record["weight_angle_deg_by_pair"].items()),
        *((own.title, _pm(record, errors, key, own.pattern)) for key, own in MEASURES.items()),
        ("Jacobian norms (S, homeostatic loss)", record["jacobian"]),
        ("settled in the run's free phase / %", number(record["converged"], ".1f", 100)),
        (
            "share of the error signal from unsettled examples / %",
            number(record["unsettled_signal_share"], ".1f", 100),
        ),
    ]
    for row in rows:
        table.add_row(*row)
    return table


def _title(record: dict[str, Any]) -> str:
    where = f"step {record['step']} (epoch {record['epoch']:g})" if record["checkpoint"] else "untrained"
    used = f"{record['examples_used']} of {record['examples']} {record['split']} examples used"
    return f"{record['dataset']}, {record['method']}, {where}: {used}"


def _bias_table(record: dict[str, Any]) -> Table:
    """Layer under layer for each bias: narrow enough for any terminal."""
    table = Table(box=None)
    for title in ("bias", "layer"):
        table.add_column(title, no_wrap=True)
    for title in ("cosine", "relative error"):
        table.add_column(title, justify="right", no_wrap=True)
    errors = record["standard_error"]
    for bias, title in _BIASES.items():
        for number_of, layer in enumerate(record["cosine"]["asymmetry"]):
            cells = [
                _pm(record[measure][bias], errors[measure][bias], layer, pattern)
                for measure, pattern in (("cosine", ".4f"), ("relative_error", ".3g"))
            ]
            table.add_row("" if number_of else title, layer, *cells)
    return table


def _gradient_table(record: dict[str, Any]) -> Table:
    table = Table(box=None, show_header=False)
    for name, cosine in record["gradient_cosine"].items():
        table.add_row(name, number(cosine, ".4f"))
    return table


def _along_table(records: list[dict[str, Any]]) -> Table:
    from hepcli.settings import MEASURES

    table = Table(box=None, padding=(0, 0, 0, 1), pad_edge=False)
    shorts = [measure.short for measure in MEASURES.values()]
    for name in ("epoch", "angle", *shorts, *_COSINES, "test error", "used"):
        table.add_column(name.replace(" ", "\n", 1), justify="right", no_wrap=True)
    for record in records:
        top1 = record["test_top1"]
        table.add_row(
            f"{record['epoch']:g}",
            number(record["weight_angle_deg"], ".1f"),
            *(number(record[key], ".3g") for key in MEASURES),
            *(number(record["cosine"][bias]["total"]) for bias in _BIASES),
            number(record["gradient_cosine"]["total"]),
            number(None if top1 is None else 1 - top1, ".2f", 100),
            str(record["examples_used"]),
        )
    return table


def _pm(values: dict[str, Any], errors: dict[str, Any], name: str, pattern: str = ".4g") -> str:
    """Mean ± standard error, left out where it is rounding."""
    value, error = values[name], errors[name]
    if value is None or error is None or error <= 1e-9 * abs(value):
        return number(value, pattern)
    place = math.floor(math.log10(error))  # of the error's first digit, and of the mean's last
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.{max(0, -place)}f} ± {error:.{max(0, -place)}f}"
    digits = math.floor(math.log10(abs(value))) - place if value else 0
    return f"{value:.{max(0, digits)}e} ± {error:.0e}"
