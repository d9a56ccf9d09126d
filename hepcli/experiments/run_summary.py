"""The summary of a finished run."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hepcli.config import OF_LAST_LINE, config_hash
from hepcli.errors import OutputError
from hepcli.experiments.notices import training_notices
from hepcli.experiments.selection import selection
from hepcli.experiments.timing import machine_of, timing_of

if TYPE_CHECKING:
    from hepcli.experiments.run import Run


def summary_of(run: "Run") -> dict[str, Any]:
    """The record of a run that is finished; of one that was so before, where it was trained stays."""
    last, notices = run.history[-1], training_notices(run.config, run.history)
    where = machine_of(run.task.layout.devices)
    if run.step == run.restored_step:
        with suppress(OutputError):  # damaged: it is written anew
            before = run.folder.read_summary() or {}
            if before.get("config_hash") == config_hash(run.config):
                where |= {name: before[name] for name in where if name in before}
    return {
        "run": str(run.folder.path),
        "config_hash": config_hash(run.config),
        "dataset": run.config.data.name,
        "dataset_sha256": run.task.fingerprint,
        "method": run.config.gradient.method,
        "seed": run.config.run.seed,
        "epochs": len(run.history),
        "steps": run.step,
        "train": last["train"],
        "test": last["test"],
        "selection": selection(run.history),
        **({"init_from": run.folder.read_init()} if run.config.run.init_from else {}),
        **({"earlier_schedules": run.earlier_schedules} if run.earlier_schedules else {}),
        **({"notices": notices} if notices else {}),
        "homeostatic_loss": last["homeostatic_loss"],
        "weight_angle_deg": last["weight_angle_deg"],
        **{name: last[name] for name in OF_LAST_LINE if name in last},
        **timing_of(run.timing, len(run.history)),
        **where,
    }
