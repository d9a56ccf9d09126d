"""`hep presets`."""

import sys
from typing import Annotated

import typer

from hepcli.cli._errors import handle_errors
from hepcli.cli._options import Code

EPILOG = "Example: hep presets fashion-mnist > mine.toml && hep train --preset mine.toml"


@handle_errors
def presets_command(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Print this preset (or TOML file), every value with its source, or this sweep.",
            show_default=False,
        ),
    ] = None,
    code: Code = None,
) -> None:
    """List the presets and sweeps, or print one."""
    from hepcli.code import load_code
    from hepcli.experiments import presets

    load_code(code or ())
    if name is not None:
        # A file that hep reads again is UTF-8, whatever the locale.
        sys.stdout.flush()
        sys.stdout.buffer.write(presets.preset_text(name).encode("utf-8"))
        sys.stdout.flush()
        return
    result = presets.list_presets()
    width = max(len(preset.name) for preset in result)
    for preset in result:
        typer.echo(f"{preset.name:<{width}}  {preset.title}")
