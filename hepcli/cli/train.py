"""`hep train`."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from hepcli.cli._errors import EXIT_INTERRUPTED, handle_errors
from hepcli.cli._options import DataDir, Json, Preset, Quiet, Seed, Settings, user_path
from hepcli.cli._stderr import say

EPILOG = "Example: hep train --preset fashion-mnist --set gradient.num_points=4 --seed 1 --out runs/n4"


@handle_errors
def train_command(
    preset: Preset = None,
    settings: Settings = None,
    seed: Seed = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", metavar="N", help="Passes over the training images.", show_default=False),
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
    init_from: Annotated[
        str | None,
        typer.Option(
            "--init-from",
            metavar="RUN[:STEP|:best]",
            help="Begin with the weights of another run, or of a file of hep export, that fit by name "
            "and shape.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out exactly where its last checkpoint is.")
    ] = False,
    distributed: Annotated[
        bool,
        typer.Option(
            "--distributed",
            help="One of several processes that train this run, each on its own devices: started by srun, or "
            "with JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.",
        ),
    ] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a network by holomorphic equilibrium propagation.

    Without --preset it trains `quickstart`: bundled data, no network, under two minutes on two cores.
    The run folder is printed to stdout at the end, progress goes to stderr.
    """
    from hepcli.cli._display import make_display
    from hepcli.cli._signals import stop_requests
    from hepcli.experiments.processes import is_first, joined_processes
    from hepcli.experiments.train import (
        BatchDone,
        EpochDone,
        Finished,
        Interrupted,
        RunStarted,
        TrainRequest,
        train,
    )

    request = TrainRequest(
        preset,
        settings or (),
        {"run.seed": seed, "run.epochs": epochs, "run.init_from": init_from},
        out,
        resume,
        data_dir,
    )
    interrupted: Interrupted | None = None
    finished: Finished | None = None
    saving = "Interrupted: finishing the step and saving. Interrupt once more to stop at once."
    with joined_processes() if distributed else nullcontext():
        speaks = is_first()
        display = make_display(quiet=quiet or not speaks)
        with stop_requests(lambda: display.notice(saving)) as stop, display:
            for record in train(request, stop):
                match record:
                    case RunStarted():
                        display.started(record)
                    case BatchDone():
                        display.batch_done(record)
                    case EpochDone():
                        display.epoch_done(record)
                    case Interrupted():
                        interrupted = record
                    case Finished():
                        finished = record
                        for text in record.notices:
                            display.notice(text)
    if interrupted is not None:
        if speaks:
            say(f"Saved. Continue with: {interrupted.command}")
        raise typer.Exit(EXIT_INTERRUPTED)
    if finished is not None and speaks:
        typer.echo(json.dumps(finished.summary, indent=2) if as_json else finished.folder)
