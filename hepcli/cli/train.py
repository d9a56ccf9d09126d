"""`hep train`."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from hepcli.cli._errors import EXIT_INTERRUPTED, handle_errors
from hepcli.cli._help import examples
from hepcli.cli._options import (
    Code,
    DataDir,
    FigureFormat,
    Format,
    InitFrom,
    Json,
    Preset,
    Quiet,
    Seed,
    Settings,
    user_path,
)
from hepcli.cli._stderr import say

EPILOG = examples(
    "hep train",
    "hep train --preset fashion-mnist --set gradient.num_points=4 --out runs/n4",
)


@handle_errors
def train_command(
    preset: Preset = None,
    settings: Settings = None,
    seed: Seed = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            metavar="N",
            help="Number of epochs in total, also with --resume. Default: the preset's.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            parser=user_path,
            metavar="DIR",
            help="Run folder. Default: runs/<preset>-<time>.",
            show_default=False,
        ),
    ] = None,
    init_from: InitFrom = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out exactly from its last checkpoint.")
    ] = False,
    distributed: Annotated[
        bool,
        typer.Option(
            "--distributed",
            help="Train this run with several processes, each on its own devices. Start them with srun, or "
            "set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID in each.",
        ),
    ] = False,
    data_dir: DataDir = None,
    figure_format: Format = FigureFormat.PNG,
    code: Code = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a network by holomorphic equilibrium propagation.

    Without --preset, the preset `quickstart` is trained: bundled data, no internet access needed, under two
    minutes on two cores. The path of the run folder is printed to stdout at the end; progress goes to stderr.
    """
    from hepcli.config import load_config

    if not (resume or code):  # a typo is told before JAX is loaded
        load_config(preset, settings or (), {"run.seed": seed, "run.epochs": epochs})
    from hepcli.api import train
    from hepcli.cli._display import make_display
    from hepcli.cli._signals import stop_requests
    from hepcli.experiments.processes import is_first, joined_processes
    from hepcli.experiments.records import BatchDone, EpochDone, Interrupted, RunStarted, TrainEvent

    def show(record: TrainEvent) -> None:
        match record:
            case RunStarted():
                display.started(record)
            case BatchDone():
                display.batch_done(record)
            case EpochDone():
                display.epoch_done(record)

    saving = "Interrupted: finishing the step and saving. Press Ctrl-C again to quit immediately."
    with joined_processes() if distributed else nullcontext():
        speaks = is_first()
        display = make_display(quiet=quiet or not speaks)
        with stop_requests(lambda: display.notice(saving)) as stop, display:
            done = train(
                preset, settings, out,
                seed=seed, epochs=epochs, init_from=init_from, resume=resume, data_dir=data_dir,
                figure_format=figure_format.value, code=code or (), on_event=show, stop=stop,
            )  # fmt: skip
    if isinstance(done, Interrupted):
        if speaks:
            say(f"Saved. Continue with: {done.command}")
        raise typer.Exit(EXIT_INTERRUPTED)
    display.finished(done)
    if speaks:
        typer.echo(json.dumps(done.summary, indent=2) if as_json else done.folder)
