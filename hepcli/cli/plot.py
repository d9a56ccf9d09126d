"""`hep plot`."""

from pathlib import Path
from typing import Annotated

import typer

from hepcli.cli import _complete as complete
from hepcli.cli._errors import handle_errors
from hepcli.cli._help import examples
from hepcli.cli._options import user_path
from hepcli.cli._stderr import say
from hepcli.errors import ConfigError

EPILOG = examples(
    "hep plot runs/n2-s0 runs/n2-s1 runs/n4-s0 --y test_error --out n.pdf",
    "hep plot runs/n4/curves.figure.json --out n4.svg",
)


@handle_errors
def plot_command(
    runs: Annotated[
        list[Path],
        typer.Argument(
            parser=user_path,
            metavar="RUN",
            autocompletion=complete.runs,
            help="Run folders, or .figure.json files to redraw.",
        ),
    ],
    y: Annotated[
        list[str] | None,
        typer.Option(
            "--y",
            metavar="KEY",
            help="What to plot in a panel: test_error, train_error, validation_error, or a dotted key of "
            "metrics.jsonl. May be repeated. Default: loss and errors.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            parser=user_path,
            metavar="FILE",
            help="A .png, .pdf or .svg file. Default: curves.png.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Plot the curves of several runs in one figure, or redraw saved figures.

    Runs that differ only in their seed are shown as their mean with a band of one standard deviation.
    FILE.figure.json, saved next to every figure, is redrawn as FILE.png or --out.
    """
    from hepcli.experiments.compare import compare, draw_again, is_figure

    if any(map(is_figure, runs)):
        if y:
            raise ConfigError("--y applies to runs only; a saved figure has fixed panels.", "Leave out --y.")
        typer.echo("\n".join(map(str, draw_again(runs, out))))
        return
    file, notices = compare(runs, y or (), out or Path("curves.png"))
    for notice in notices:
        say(notice)
    typer.echo(file)
