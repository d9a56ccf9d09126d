"""`hep plot`."""

from pathlib import Path
from typing import Annotated

import typer

from hepcli.cli import _complete as complete
from hepcli.cli._errors import handle_errors
from hepcli.cli._help import examples
from hepcli.cli._options import user_path
from hepcli.cli._stderr import say

EPILOG = examples("hep plot runs/n2-s0 runs/n2-s1 runs/n4-s0 --y test_error --out n.pdf")


@handle_errors
def plot_command(
    runs: Annotated[
        list[Path],
        typer.Argument(parser=user_path, metavar="RUN", autocompletion=complete.runs, help="Run folders."),
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
        Path, typer.Option("--out", parser=user_path, metavar="FILE", help="A .png, .pdf or .svg file.")
    ] = Path("curves.png"),
) -> None:
    """Draw curves of several runs in one figure.

    Runs that differ in their seed only become a mean with a band of one standard deviation.
    """
    from hepcli.experiments.compare import compare

    file, notices = compare(runs, y or (), out)
    for notice in notices:
        say(notice)
    typer.echo(file)
