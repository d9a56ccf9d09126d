"""The command line: parses, displays, and leaves the work to `hepcli.experiments`."""

import codecs
import io
import os
import sys
from typing import Annotated

import typer

from hepcli.cli import data, evaluate, export, measure, plot, presets, sweep, sweep_worker, train
from hepcli.cli._errors import DEBUG_VARIABLE, handle_errors
from hepcli.cli._help import Command, Group

app = typer.Typer(
    name="hep",
    help="Train and measure networks by holomorphic equilibrium propagation.",
    cls=Group,
    epilog="Start with: hep train",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train", cls=Command, epilog=train.EPILOG)(train.train_command)
app.command("eval", cls=Command, epilog=evaluate.EPILOG)(evaluate.eval_command)
app.command("measure-asymmetry", cls=Command, epilog=measure.EPILOG)(measure.measure_command)
app.command("sweep", cls=Command, epilog=sweep.EPILOG)(sweep.sweep_command)
app.command("sweep-worker", cls=Command, hidden=True)(sweep_worker.worker_command)
app.command("plot", cls=Command, epilog=plot.EPILOG)(plot.plot_command)
app.command("export", cls=Command, epilog=export.EPILOG)(export.export_command)
app.command("presets", cls=Command, epilog=presets.EPILOG)(presets.presets_command)
app.add_typer(data.app, name="data")


def _print_version(asked: bool) -> None:
    if asked:
        from hepcli import __version__

        typer.echo(f"hep {__version__}")
        raise typer.Exit


@app.callback()
def common_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of errors.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Train and measure networks by holomorphic equilibrium propagation."""
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"


def main() -> None:
    """Entry point of the `hep` command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        codecs.register_error("hep", _unprintable)
        sys.stdout.reconfigure(errors="hep")
    try:
        _run()
    except typer.Exit as error:
        sys.exit(error.exit_code)


@handle_errors
def _run() -> None:
    """What a command does not handle itself: --help and --version on a full disk."""
    app()


def _unprintable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Print the bytes of paths as they are, and what an encoding lacks by its escape."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)
