"""The values of a run that a sweep tabulates, plots or searches for: what its records call them."""

from collections.abc import Iterable

from hepcli.settings import Fault, assigned, did_you_mean

ERRORS = {
    "test_error": "test.top1",
    "selected_test_error": "selection.test.top1",
    "validation_error": "selection.validation.top1",
    "train_error": "train.top1",
}
"""Errors in %, and the shares of right answers in summary.json that they are made of."""
LINE_ERRORS = ERRORS | {"validation_error": "validation.top1"}
"""The same in a line of metrics.jsonl, which is of one epoch."""

_SPLIT = (
    *("loss", "top1", "top5", "log10_residual", "settled", "nudged_log10_residual", "nudged_settled"),
    *("passes", "unsettled", "unsettled_signal_share", "nonfinite", "examples"),
)
_OF_BOTH = (
    *(f"{split}.{name}" for split in ("train", "test") for name in _SPLIT),
    *("homeostatic_loss", "weight_angle_deg"),
)
_OF_SUMMARY = (
    *("seed", "epochs", "steps", "training_seconds", "images_per_second", "trained_together"),
    *("processes", "selection.epoch", "selection.step"),
    *(f"selection.{split}.{name}" for split in ("validation", "test") for name in _SPLIT),
)
_OF_LINE = ("epoch", "step", *(f"validation.{name}" for name in _SPLIT))
_NEEDS = {
    ("validation_error", "validation.", "selection.validation."): "data.validation_examples",
    ("asymmetry.",): "run.measure_examples",
}
"""How the names of values begin, and the number of examples that must not be 0 for them to exist."""
OF_LAST_LINE = ("weight_angle_deg_by_pair", "kernel_std", "asymmetry")
"""Tables whose keys depend on the network, or on what is measured; summaries have the last epoch's."""
_TABLES_OF_LINE = tuple(f"{name}." for name in OF_LAST_LINE)
_TABLES_OF_SUMMARY = ("init_from.", *_TABLES_OF_LINE)


def value_names(*, over_epochs: bool) -> list[str]:
    """The names of values, those aside whose tables depend on the network or on what is measured."""
    errors = [name for name in ERRORS if name != "selected_test_error" or not over_epochs]
    return [*errors, *_OF_BOTH, *(_OF_LINE if over_epochs else _OF_SUMMARY)]


def value_faults(key: str, names: Iterable[str], *, over_epochs: bool = False) -> list[Fault]:
    """Say which names of values are wrong.

    Args:
        key: of the definition, where they stand.
        names: errors such as `test_error`, or dotted keys of summary.json.
        over_epochs: whether they are plotted over the epochs, so that keys are those of metrics.jsonl.

    Returns:
        The faults, each with the nearest name that is right.
    """
    known = value_names(over_epochs=over_epochs)
    tables = _TABLES_OF_LINE if over_epochs else _TABLES_OF_SUMMARY
    file = "metrics.jsonl" if over_epochs else "summary.json"
    return [
        Fault(assigned(key, name), f"there is no such value in {file}{did_you_mean(name, known)}")
        for name in names
        if name not in known and not name.startswith(tables)
    ]


def needed_by(name: str) -> str | None:
    """The setting that must be above 0 for a value to be recorded; None if it always is."""
    return next((key for starts, key in _NEEDS.items() if name.startswith(starts)), None)
