"""`hep sweep`, and the workers it starts."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hepcli.cli import _complete as complete
from hepcli.cli._errors import EXIT_ERROR, EXIT_INTERRUPTED, handle_errors
from hepcli.cli._help import examples
from hepcli.cli._options import (
    Code,
    DataDir,
    FigureFormat,
    Format,
    Json,
    Quiet,
    Settings,
    not_empty,
    user_path,
)
from hepcli.cli._stderr import say
from hepcli.errors import ConfigError

if TYPE_CHECKING:
    from hepcli.experiments.sweeps.definition import SweepRequest

EPILOG = examples(
    "hep sweep table1 --seeds 0-2 --epochs 5 --jobs 2",
    "hep sweep --preset fashion-mnist --vary gradient.num_points=1,2,4 \\\n"
    "    --vary gradient.beta_radius=0.05,0.5 --seeds 0-4 --jobs 2",
    "hep sweep --report sweeps/fig3 --against bptt",
)

Together = Annotated[
    bool,
    typer.Option(
        "--together",
        help="Train runs that differ only in seed, beta, lambda, learning rate or angle together in one "
        "program. For GPUs; on a CPU, --jobs is faster.",
    ),
]
FailFast = Annotated[
    bool, typer.Option("--fail-fast", help="Stop at the first run that fails; the other runs save and stop.")
]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Run only points I, I+N, …; for four shards use 0/4, 1/4, 2/4 and 3/4.",
        show_default=False,
    ),
]


Reuse = Annotated[
    list[Path] | None,
    typer.Option(
        "--reuse",
        parser=user_path,
        metavar="DIR",
        help="Copy finished runs of the same configuration from another sweep, or a folder of sweeps or "
        "runs. May be repeated.",
        show_default=False,
    ),
]


@handle_errors
def sweep_command(
    sweep: Annotated[
        str | None,
        typer.Argument(
            metavar="SWEEP",
            autocompletion=complete.sweep_names,
            help="Name of a built-in sweep (see `hep presets`) or a TOML file.",
            show_default=False,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            parser=not_empty,
            metavar="NAME",
            autocompletion=complete.preset_names,
            help="Base preset to vary, a name or a TOML file, instead of SWEEP.",
            show_default=False,
        ),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary",
            metavar="KEY=V1,V2",
            autocompletion=complete.keys,
            help="Values to try for a key; K1:K2=V1:W1,V2:W2 varies keys together. May be repeated.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            "--seeds",
            metavar="0-4",
            help="Seeds; every combination of values is run once per seed. Default: the sweep's, or 0 with "
            "--preset.",
            show_default=False,
        ),
    ] = None,
    settings: Settings = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", metavar="N", help="Number of epochs of every run.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            parser=user_path,
            metavar="DIR",
            help="Sweep folder. Default: sweeps/<name>.",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", min=1, help="Workers on this machine.")] = 1,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue the sweep in --out and retry its failed points."),
    ] = False,
    reuse: Reuse = None,
    together: Together = False,
    shard: Shard = None,
    slurm: Annotated[
        str | None,
        typer.Option(
            "--slurm",
            metavar="K=V,…",
            help="Submit --jobs workers to Slurm with these options, such as partition=gpu,time=60 "
            "(minutes), and return.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the points and write nothing.")] = False,
    report_dir: Annotated[
        Path | None,
        typer.Option(
            "--report",
            parser=user_path,
            metavar="DIR",
            help="Rebuild the table and figure of a sweep, or of a folder that contains run folders.",
            show_default=False,
        ),
    ] = None,
    keys: Annotated[
        str | None,
        typer.Option(
            "--keys",
            metavar="K1,K2",
            help="With --report on a folder of runs, the keys to tabulate by.",
            show_default=False,
        ),
    ] = None,
    value: Annotated[
        str | None,
        typer.Option(
            "--value",
            metavar="KEY",
            help="With --report, what to tabulate: test_error, train_error, validation_error, "
            "selected_test_error or a key of summary.json such as images_per_second.",
            show_default=False,
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="LABEL",
            help="With --report, also tabulate how all other conditions differ from the one with this label, "
            "paired by seed, with confidence intervals.",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    search: Annotated[
        str | None,
        typer.Option(
            "--search",
            metavar="K=V,…",
            help="Search instead of running the full grid, e.g. trials=30,sampler=tpe. --vary "
            "may then give a range: KEY=LOW..HIGH or KEY=LOW..HIGH:log.",
            show_default=False,
        ),
    ] = None,
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
    given = [name for name, value in others.items() if value]
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
    """Have SLURM run the sweep."""
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


@handle_errors
def worker_command(
    folder: Annotated[Path, typer.Argument(parser=user_path, metavar="DIR", help="Folder of the sweep.")],
    together: Together = False,
    fail_fast: FailFast = False,
    shard: Shard = None,
    cpus: Annotated[str | None, typer.Option("--cpus", metavar="0,1", help="CPU cores to run on.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait while other workers hold points.")
    ] = True,
    parent: Annotated[
        int | None, typer.Option("--parent", metavar="PID", help="Stop when this process has ended.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Work on a sweep folder until nothing is left; `hep sweep` starts these."""
    from hepcli.cli._signals import stop_requests
    from hepcli.experiments.sweeps.worker import WorkRequest, work

    request = WorkRequest(
        folder,
        shard,
        together,
        fail_fast,
        wait,
        [int(cpu) for cpu in cpus.split(",")] if cpus else [],
        data_dir,
    )
    parent = os.getppid() if parent is None else parent
    with stop_requests(lambda: say("stop requested")) as stop:
        for line in work(request, lambda: stop() or os.getppid() != parent):
            say(line)
