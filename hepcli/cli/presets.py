"""`hep presets`."""

import shutil
import sys
import textwrap
from typing import Annotated

import typer

from hepcli.cli import _complete as complete
from hepcli.cli._errors import handle_errors
from hepcli.cli._help import examples
from hepcli.cli._options import Code

EPILOG = examples("hep presets", "hep presets fashion-mnist > mine.toml && hep train --preset mine.toml")

_LEAST_ROOM = 20  # columns for a title


@handle_errors
def presets_command(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            autocompletion=complete.all_names,
            help="Print this preset (or TOML file) with the source of every value, or this sweep.",
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
    room = shutil.get_terminal_size().columns - width - 2 if sys.stdout.isatty() else 0
    for preset in result:
        # Off a terminal a line each: scripts read the name before the first blank.
        lines = textwrap.wrap(preset.title, room) if room >= _LEAST_ROOM else [preset.title]
        typer.echo(f"{preset.name:<{width}}  " + f"\n{'':<{width}}  ".join(lines))
