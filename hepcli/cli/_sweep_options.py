"""The options of `hep sweep` and its workers."""

from pathlib import Path
from typing import Annotated

import typer

from hepcli.cli import _complete as complete
from hepcli.cli._options import not_empty, user_path

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
Sweep = Annotated[
    str | None,
    typer.Argument(
        metavar="SWEEP",
        autocompletion=complete.sweep_names,
        help="Name of a built-in sweep (see `hep presets`) or a TOML file.",
        show_default=False,
    ),
]
BasePreset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        parser=not_empty,
        metavar="NAME",
        autocompletion=complete.preset_names,
        help="Base preset to vary, a name or a TOML file, instead of SWEEP.",
        show_default=False,
    ),
]
Vary = Annotated[
    list[str] | None,
    typer.Option(
        "--vary",
        metavar="KEY=V1,V2",
        autocompletion=complete.keys,
        help="Values to try for a key; K1:K2=V1:W1,V2:W2 varies keys together. May be repeated.",
        show_default=False,
    ),
]
Seeds = Annotated[
    str | None,
    typer.Option(
        "--seeds",
        metavar="0-4",
        help="Seeds; every combination of values is run once per seed. Default: the sweep's, or 0 with "
        "--preset.",
        show_default=False,
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option("--epochs", metavar="N", help="Number of epochs of every run.", show_default=False),
]
SweepOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        parser=user_path,
        metavar="DIR",
        help="Sweep folder. Default: sweeps/<name>.",
        show_default=False,
    ),
]
Jobs = Annotated[int, typer.Option("--jobs", metavar="N", min=1, help="Workers on this machine.")]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Continue the sweep in --out and retry its failed points."),
]
Slurm = Annotated[
    str | None,
    typer.Option(
        "--slurm",
        metavar="K=V,…",
        help="Submit --jobs workers to Slurm with these options, such as partition=gpu,time=60 "
        "(minutes), and return.",
        show_default=False,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the points and write nothing.")]
ReportOf = Annotated[
    Path | None,
    typer.Option(
        "--report",
        parser=user_path,
        metavar="DIR",
        help="Rebuild the table and figure of a sweep, or of a folder that contains run folders.",
        show_default=False,
    ),
]
Keys = Annotated[
    str | None,
    typer.Option(
        "--keys",
        metavar="K1,K2",
        help="With --report on a folder of runs, the keys to tabulate by.",
        show_default=False,
    ),
]
Value = Annotated[
    str | None,
    typer.Option(
        "--value",
        metavar="KEY",
        help="With --report, what to tabulate: test_error, train_error, validation_error, "
        "selected_test_error or a key of summary.json such as images_per_second.",
        show_default=False,
    ),
]
Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        metavar="LABEL",
        help="With --report, also tabulate how all other conditions differ from the one with this label, "
        "paired by seed, with confidence intervals.",
        show_default=False,
    ),
]
Search = Annotated[
    str | None,
    typer.Option(
        "--search",
        metavar="K=V,…",
        help="Search instead of running the full grid, e.g. trials=30,sampler=tpe. --vary "
        "may then give a range: KEY=LOW..HIGH or KEY=LOW..HIGH:log.",
        show_default=False,
    ),
]
