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
            help="Run folders, or data of figures.",
        ),
    ],
    y: Annotated[
        list[str] | None,
        typer.Option(
            "--y",
            metavar="KEY",
            help="A panel: test_error, train_error, validation_error, or a dotted key of metrics.jsonl. "
            "May be repeated. Default: loss and errors.",
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
    """Draw curves of several runs in one figure, or figures again from their data.

    Runs that differ in their seed only become a mean with a band of one standard deviation.
    A FILE.figure.json, which lies beside every figure, is drawn again, as FILE.png or --out.
    """
    from hepcli.experiments.compare import compare, draw_again, is_figure

    if any(map(is_figure, runs)):
        if y:
            raise ConfigError("--y chooses curves of runs, and a figure has its own.", "Leave it out.")
        typer.echo("\n".join(map(str, draw_again(runs, out))))
        return
    file, notices = compare(runs, y or (), out or Path("curves.png"))
    for notice in notices:
        say(notice)
    typer.echo(file)
