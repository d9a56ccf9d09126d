"""The records of a run: their names, and how they are read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hepcli.checkpoints import CONFIG_FILE
from hepcli.config import RUN_HEADER
from hepcli.errors import OutputError

METRICS_FILE = "metrics.jsonl"
TIMING_FILE = "timing.jsonl"
SUMMARY_FILE = "summary.json"
INIT_FILE = "init_from.json"


def _has_content(file: Path) -> bool:
    return file.exists() and (not file.is_file() or file.stat().st_size > 0)


def line_of(record: Mapping[str, Any]) -> str:
    """A line of a JSON Lines file."""
    return json.dumps(record, allow_nan=False) + "\n"


def check_foreign(folder: Path) -> None:
    """Refuse to replace what no run that was killed before its first step leaves.

    Raises:
        OutputError: there are records or curves, or a config.toml that is not of a run.
    """
    what = None
    config, curves = folder / CONFIG_FILE, sorted(folder.glob("curves.*"))
    records = [name for name in (METRICS_FILE, TIMING_FILE) if _has_content(folder / name)]
    if (folder / SUMMARY_FILE).exists():
        what = f"{SUMMARY_FILE} of a finished run without checkpoints, or of something else"
    elif records:
        what = f"{records[0]} of a run whose checkpoints are missing, or not mounted"
    elif curves:
        what = f"{curves[0].name} that this run would replace"
    elif config.exists():
        start = config.read_bytes()[: len(RUN_HEADER)]
        if not RUN_HEADER.encode().startswith(start):  # what is cut short is ours too
            what = f"{CONFIG_FILE} that hep did not write"
    elif (folder / INIT_FILE).exists():
        what = f"{INIT_FILE} that hep did not write"
    if what is not None:
        raise OutputError(f"{folder} contains a {what}.", "Choose another --out, or move that file away.")


def read_json(file: Path, advice: str) -> dict[str, Any] | None:
    """A JSON file with a table; None where there is none.

    Raises:
        OutputError: it is damaged; with this advice.
    """
    try:
        record = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):  # neither JSON nor text
        record = None
    if not isinstance(record, dict):
        raise OutputError(f"{file} is damaged.", advice)
    return record


def read_lines(file: Path, advice: str) -> list[dict[str, Any]]:
    """The whole lines of a JSON Lines file; a torn last line is left out, no file is no line.

    Raises:
        OutputError: a line is damaged; with this advice.
    """
    if not file.exists():
        return []
    result = []
    for number, line in enumerate(file.read_bytes().split(b"\n")[:-1], 1):
        if not line:
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):  # neither JSON nor text
            record = None
        if not isinstance(record, dict):
            raise damaged(file, number, advice)
        result.append(record)
    return result


def damaged(file: Path, number: int, advice: str) -> OutputError:
    """What is raised of a line that is damaged."""
    return OutputError(f"{file} is damaged at line {number}.", advice)
