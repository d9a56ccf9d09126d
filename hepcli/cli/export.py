"""`hep export`."""

from pathlib import Path
from typing import Annotated

import typer

from hepcli.cli._errors import handle_errors
from hepcli.cli._help import examples
from hepcli.cli._options import Best, Checkpoint, Code, DataDir, Step, chosen_step, user_path
from hepcli.cli._stderr import say

EPILOG = examples("hep export runs/n4 --out n4.safetensors")


@handle_errors
def export_command(
    checkpoint: Checkpoint,
    out: Annotated[
        Path,
        typer.Option(
            "--out", parser=user_path, metavar="FILE", help="Output file, ending in .safetensors or .npz."
        ),
    ],
    step: Step = None,
    best: Best = False,
    data_dir: DataDir = None,
    code: Code = None,
) -> None:
    """Write the weights and configuration of a saved network to one file."""
    from hepcli.experiments.weights import export

    file, notices = export(checkpoint, out, chosen_step(step, best=best), data_dir, code or ())
    for notice in notices:
        say(notice)
    typer.echo(file)
