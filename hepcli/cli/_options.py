"""Options that several commands share, declared once."""

from pathlib import Path
from typing import Annotated

import typer

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Folder data sets are kept in. Default: $HEP_DATA_DIR, else ~/.local/share/hep.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object to stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set a key of the preset, such as relaxation.free_steps=200. May be repeated.",
        show_default=False,
    ),
]
Checkpoint = Annotated[
    Path,
    typer.Argument(metavar="CHECKPOINT", help="A run folder, its checkpoints/ folder, or one step in it."),
]
Step = Annotated[
    int | None,
    typer.Option("--step", metavar="N", help="Which saved step. Default: the newest.", show_default=False),
]
