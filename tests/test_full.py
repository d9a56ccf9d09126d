"""What only `pytest --full` runs exists, and has siblings that run always."""

import re
from pathlib import Path

import pytest

from .full import ONLY_FULL

HERE = Path(__file__).parent
NAMES = sorted({entry.partition("[")[0] for entry in ONLY_FULL})


@pytest.mark.parametrize("name", NAMES)
def test_it_is_there(name):
    file, _, test = name.partition("::")
    assert re.search(rf"^def {test}\(", (HERE / file).read_text(), re.MULTILINE)


def test_every_file_keeps_tests_that_always_run():
    for file in {name.partition("::")[0] for name in NAMES}:
        all_tests = re.findall(r"^def (test_\w+)\(", (HERE / file).read_text(), re.MULTILINE)
        whole = {entry.partition("::")[2] for entry in ONLY_FULL if "[" not in entry}
        assert set(all_tests) - whole, file
