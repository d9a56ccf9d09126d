"""`hep data`: list data sets, download one, or import it from local archives."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from hepcli.cli import _complete as complete
from hepcli.cli._errors import handle_errors
from hepcli.cli._help import Command, Group, examples
from hepcli.cli._options import Code, DataDir, Json, user_path
from hepcli.cli._stderr import StderrConsole, attempt, say
from hepcli.files import legible

app = typer.Typer(cls=Group, help="List, download and import data sets.", no_args_is_help=True)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        autocompletion=complete.data_names,
        help="Name of the data set (see hep data list). For hep data import it may be a new name.",
    ),
]


@app.command("list", cls=Command, epilog=examples("hep data list --json"))
@handle_errors
def list_command(
    data_dir: DataDir = None,
    code: Code = None,
    as_json: Json = False,
) -> None:
    """List data sets and where they are."""
    from hepcli.code import load_code
    from hepcli.experiments.data import list_data

    load_code(code or ())
    records = list_data(data_dir)
    if as_json:
        typer.echo(json.dumps({"datasets": records}, indent=2))
    else:
        _show(records)


@app.command("prepare", cls=Command, epilog=examples("hep data prepare fashion_mnist"))
@handle_errors
def prepare_command(name: Name, data_dir: DataDir = None) -> None:
    """Download and prepare a data set, and print its folder."""
    from hepcli.experiments.data import prepare_data

    typer.echo(prepare_data(name, data_dir, _report))


@app.command("import", cls=Command, epilog=examples("hep data import flowers ~/Pictures/flowers"))
@handle_errors
def import_command(
    name: Name,
    source_dir: Annotated[
        Path,
        typer.Argument(
            parser=user_path,
            metavar="SOURCE",
            help="Folder with the official archives, packed or unpacked. For a new NAME: an .npz file "
            "with images and labels, or a folder with one subfolder of PNG or JPEG images per class.",
        ),
    ],
    data_dir: DataDir = None,
) -> None:
    """Prepare a data set from local archives or your own images, and print its folder."""
    from hepcli.experiments.data import import_data

    typer.echo(import_data(name, source_dir, data_dir, _report))


def _report(line: str) -> None:
    say(line)


def _show(records: list[dict[str, Any]]) -> None:
    """A line for each data set, and below it where it is: paths fit no column."""
    row = f"{{:<{max(len(record['name']) for record in records)}}}  {{:<8}}  {{:>9}}  {{:>6}}  {{:>7}}"
    lines = [Text(row.format("name", "state", "train", "test", "classes"), style="bold")]
    for record in records:
        sizes = [f"{record[f'{split}_examples']:,}" for split in ("train", "test")]
        lines.append(Text(row.format(record["name"], record["state"], *sizes, f"{record['num_classes']:,}")))
        missing = f"download it with: hep data prepare {record['name']}"
        where = record["location"] or (missing if record["state"] == "missing" else "from --code")
        lines.append(Text(f"  {legible(where)}"))
    attempt(lambda: StderrConsole(soft_wrap=True).print(*lines, sep="\n"))
