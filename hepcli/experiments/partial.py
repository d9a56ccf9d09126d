"""The steps of a run that `--all-steps` has measured so far: an interrupted command is continued."""

import json
from typing import Any

from hepcli.experiments.measurement import Measurement
from hepcli.experiments.run_folder import RunFolder
from hepcli.experiments.set_aside import free_name
from hepcli.files import held

PARTIAL_FILE = "measures.partial.json"
"""The steps that are measured already, until all are."""


class PartialMeasures:
    """What is measured already, in a file beside the results until all is.

    Args:
        folder: of the results.
        run: the run folder, as records name their checkpoints.
        measurement: by whose settings steps are measured; what others measured is kept under another name.

    Attributes:
        steps: step to the record of what an interrupted command measured.
        notices: what the user should know of it.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: RunFolder, run: str, measurement: Measurement) -> None:
        self._folder, self.notices = folder, list[str]()
        self.steps: dict[int, dict[str, Any]] = {}
        file = folder.path / PARTIAL_FILE
        with folder.writing(), held(folder.path):
            try:
                content = file.read_bytes()
            except FileNotFoundError:
                return
            records = _records(content, measurement.settings, run)
            if records:
                self.steps = {record["step"]: record for record in records}
                many = "step was" if len(records) == 1 else "steps were"
                self.notices.append(f"{len(records)} {many} measured before: continuing {file}.")
                return
            kept = free_name(file)
            file.rename(kept)
        self.notices.append(f"{file} holds steps of another run or other settings; it is now {kept.name}.")

    def add(self, record: dict[str, Any]) -> None:
        """Keep the record of one more step."""
        self.steps[record["step"]] = record
        self._folder.write_json(PARTIAL_FILE, {"steps": [self.steps[step] for step in sorted(self.steps)]})


def _records(content: bytes, settings: dict[str, Any], run: str) -> list[dict[str, Any]]:
    """The records in a file, if all are of that run and measured with those settings; else none."""
    own = json.loads(json.dumps(settings))  # tuples are lists in the file
    try:
        records = json.loads(content)["steps"]
        same = all(
            {key: record[key] for key in own} == own and record["checkpoint"] == f"{run}/{record['step']}"
            for record in records
        )
    except (ValueError, RecursionError, KeyError, TypeError):  # damaged, or of another program
        return []
    return list(records) if same else []
