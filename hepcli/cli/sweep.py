"""`hep sweep`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hepcli.cli._errors import EXIT_ERROR, EXIT_INTERRUPTED, handle_errors
from hepcli.cli._help import examples
from hepcli.cli._options import Code, DataDir, FigureFormat, Format, Json, Quiet, Settings
from hepcli.cli._stderr import say
from hepcli.cli._sweep_options import (
    Against,
    BasePreset,
    DryRun,
    Epochs,
    FailFast,
    Jobs,
    Keys,
    ReportOf,
    Resume,
    Reuse,
    Search,
    Seeds,
    Shard,
    Slurm,
    Sweep,
    SweepOut,
    Together,
    Value,
    Vary,
)
from hepcli.errors import ConfigError

if TYPE_CHECKING:
    from hepcli.experiments.sweeps.definition import SweepRequest

EPILOG = examples(
    "hep sweep table1 --seeds 0-2 --epochs 5 --jobs 2",
    "hep sweep --preset fashion-mnist --vary gradient.num_points=1,2,4 \\\n"
    "    --vary gradient.beta_radius=0.05,0.5 --seeds 0-4 --jobs 2",
    "hep sweep --report sweeps/fig3 --against bptt",
)


@handle_errors
def sweep_command(
    sweep: Sweep = None,
    preset: BasePreset = None,
    vary: Vary = None,
    seeds: Seeds = None,
    settings: Settings = None,
    epochs: Epochs = None,
    out: SweepOut = None,
    jobs: Jobs = 1,
    resume: Resume = False,
    reuse: Reuse = None,
    together: Together = False,
    shard: Shard = None,
    slurm: Slurm = None,
    dry_run: DryRun = False,
    report_dir: ReportOf = None,
    keys: Keys = None,
    value: Value = None,
    against: Against = None,
    data_dir: DataDir = None,
    search: Search = None,
    fail_fast: FailFast = False,
    figure_format: Format = FigureFormat.PNG,
    code: Code = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run a grid of settings and seeds, and summarise it in a table and a figure.

    Running the same command again, or elsewhere at the same time, joins the sweep. The paths of the files are
    printed to stdout at the end; progress goes to stderr.
    """
    from hepcli.experiments.sweeps.definition import SweepRequest

    for option, given in (("--value KEY", value), ("--keys K1,K2", keys), ("--against LABEL", against)):
        if given is not None and report_dir is None:
            raise ConfigError(
                f"{option.split()[0]} works only with --report.", f"Run hep sweep --report DIR {option}."
            )
    if report_dir is not None:
        _check_alone(
            {
                "SWEEP": sweep, "--preset": preset, "--vary": vary, "--seeds": seeds, "--set": settings,
                "--epochs": epochs, "--out": out, "--jobs": jobs != 1, "--resume": resume,
                "--together": together, "--shard": shard, "--slurm": slurm, "--dry-run": dry_run,
                "--search": search, "--fail-fast": fail_fast, "--code": code, "--reuse": reuse,
                "--data-dir": data_dir,
            }
        )  # fmt: skip
        chosen = None if keys is None else [key.strip() for key in keys.split(",")]
        _report(report_dir, value, figure_format, chosen, against, as_json=as_json, quiet=quiet)
        return
    request = SweepRequest(
        sweep=sweep,
        preset=preset,
        vary=vary or (),
        seeds=seeds,
        overrides=settings or (),
        epochs=epochs,
        out=out,
        jobs=jobs,
        resume=resume,
        together=together,
        shard=shard,
        data_dir=data_dir,
        figure_format=figure_format.value,
        code=code or (),
        search=search,
        fail_fast=fail_fast,
        reuse=reuse or (),
    )
    if dry_run:
        _plan(request, as_json=as_json, quiet=quiet)
    elif slurm is not None:
        _submit(request, slurm, as_json=as_json)
    elif _run(request, as_json=as_json, quiet=quiet):
        raise typer.Exit(EXIT_ERROR)


def _check_alone(others: dict[str, object]) -> None:
    """Check that nothing stands beside --report that it would ignore.

    Raises:
        ConfigError: an option does.
    """
    given = [name for name, value in others.items() if value not in (None, []) and value is not False]
    if given:
        raise ConfigError(
            f"--report reads what is there and cannot be combined with {', '.join(given)}.",
            f"Leave out {given[0]}.",
        )


def _report(
    folder: Path,
    value: str | None,
    figure_format: FigureFormat,
    keys: list[str] | None,
    against: str | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Summarise what is there."""
    from hepcli.cli._sweep_display import show_report
    from hepcli.experiments.sweeps.report import as_json as report_json
    from hepcli.experiments.sweeps.report import report

    made = report(folder, value, figure_format.value, keys, against)
    show_report(made, quiet=quiet)
    typer.echo(report_json(made) if as_json else "\n".join(map(str, made.files)))


def _plan(request: "SweepRequest", *, as_json: bool, quiet: bool) -> None:
    """Show what would be run."""
    from hepcli.cli._sweep_display import show_plan
    from hepcli.experiments.sweeps.plan import plan

    planned = plan(request)
    for note in planned.notes:
        say(note)
    if not quiet:
        show_plan(planned)
    if as_json:
        points = [point._asdict() for point in planned.own]
        table = planned.definition.search
        found = {"points": points} if table is None else {"search": table.model_dump()}
        typer.echo(json.dumps({"folder": str(planned.folder)} | found, indent=2))


def _submit(request: "SweepRequest", slurm: str, *, as_json: bool) -> None:
    """Have Slurm run the sweep."""
    from hepcli.experiments.sweeps.slurm import submit

    submitted = submit(request, slurm)
    for note in submitted.notes:
        say(note)
    lines = [*(f"job {job}" for job in submitted.jobs), f"report: {submitted.report}"]
    record = {"jobs": submitted.jobs, "report": submitted.report}
    typer.echo(json.dumps(record, indent=2) if as_json else "\n".join(lines))


def _run(request: "SweepRequest", *, as_json: bool, quiet: bool) -> int:
    """Run the sweep under its display; the number of points that failed."""
    from hepcli.cli._signals import stop_requests
    from hepcli.cli._sweep_display import make_display, show_report
    from hepcli.experiments import sweep as experiment
    from hepcli.experiments.sweeps.report import as_json as report_json

    last: experiment.SweepEvent | None = None
    saving = (
        "Interrupted: workers are finishing their step and saving. Press Ctrl-C again to quit immediately."
    )
    display = make_display(quiet=quiet)
    with stop_requests(lambda: display.notice(saving)) as stop, display:
        for record in experiment.sweep(request, ["hep", *sys.argv[1:]], stop):
            display.show(record)
            last = record
    if isinstance(last, experiment.SweepInterrupted):
        say(f"Saved. Continue with: {last.command}")
        raise typer.Exit(EXIT_INTERRUPTED)
    if not isinstance(last, experiment.SweepFinished):
        return 0
    show_report(last.report, quiet=quiet)
    typer.echo(report_json(last.report) if as_json else "\n".join(map(str, last.report.files)))
    return last.failed
