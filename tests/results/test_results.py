"""Numbers in RESULTS.md are those of the runs that are kept beside it."""

import json

import pytest

from hepcli.config import load_sweep
from hepcli.experiments.figures.data import read_data
from hepcli.experiments.sweeps.points import expand
from tests.results.figures import FIGURES, figure, stem
from tests.results.records import FOLDER
from tests.results.tables import RESULTS, rewritten

KEPT = sorted(file for file in FOLDER.glob("*.json") if file.stem != "signals")
TEXT = RESULTS.read_text(encoding="utf-8")


def test_tables_are_those_of_the_runs():
    assert rewritten(TEXT) == TEXT, "make them anew: python -m tests.results"


@pytest.mark.parametrize(
    ("name", "epochs"),
    [
        ("beyond", None),
        ("beyond", 50),
        ("cifar10-methods", None),
        ("fig3", None),
        ("fig3", 50),
        ("table1", None),
    ],
)
def test_figures_are_those_of_the_runs(name, epochs):
    """Within the rounding of what is kept."""
    shown = read_data(FIGURES / f"{stem(name, epochs)}.figure.json")
    assert figure(name, epochs) == shown, f"draw it anew: python -m tests.results --draw {name}"


@pytest.mark.parametrize("file", KEPT, ids=lambda file: file.stem)
def test_results_that_are_kept_are_shown_and_come_from_a_sweep_that_ships(file):
    record = json.loads(file.read_text(encoding="utf-8"))
    assert f"<!-- table of {file.stem} -->" in TEXT
    _, definition = load_sweep(record["sweep"])
    points = {(point.seed, tuple(point.labels.items())) for point in expand(definition)}
    for run in record["runs"]:
        assert (run["seed"], tuple(run["labels"].items())) in points
        assert len(run["test_error"]) == run["epochs"]
