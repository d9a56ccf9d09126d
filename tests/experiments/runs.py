"""Runs of the small network, and what is in their folders."""

import json
from pathlib import Path

from hepcli.checkpoints import CheckpointStore
from hepcli.experiments.train import BatchDone, TrainRequest, train

EPOCHS = 3  # of 10 steps each


def run(out, overrides, *, stop_after=None, resume=False, epochs=EPOCHS, preset=None):
    """Train, stopping after a number of steps of this call; returns all records."""
    records = []
    done = lambda: sum(isinstance(record, BatchDone) for record in records)  # noqa: E731
    stop = lambda: stop_after is not None and done() >= stop_after  # noqa: E731
    request = TrainRequest(preset, overrides, {"run.epochs": epochs}, out, resume)
    for record in train(request, stop):  # not extend: `stop` must see each record as it comes
        records.append(record)
    return records


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def final_params(folder):
    store = CheckpointStore(folder / "checkpoints")
    step = store.steps()[-1]
    leaves = {}
    for file in sorted((folder / "checkpoints" / str(step)).rglob("*")):
        if file.is_file() and "manifest" in file.name and file.suffix == ".json":
            leaves = json.loads(file.read_text())["leaves"]
    return step, {name: leaf["sha256"] for name, leaf in leaves.items()}


def flip_a_byte(step_folder: Path) -> None:
    largest = max((file for file in step_folder.rglob("*") if file.is_file()), key=lambda f: f.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
