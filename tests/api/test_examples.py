"""The examples in the docstrings of the library, and the README's, do what they say."""

import doctest
import re
from pathlib import Path

import pytest

import hepcli
from hepcli.api import _model

pytestmark = pytest.mark.slow
PUBLIC = [getattr(hepcli, name) for name in hepcli.__all__]
EXAMPLES = [
    example
    for part in PUBLIC
    for example in doctest.DocTestFinder(recurse=True).find(part, part.__name__, module=False)
    if example.examples
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_of_a_docstring(example, finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run" if example.name == "train" else finished
    example.globs = {"hepcli": hepcli, "folder": folder}
    said = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example, out=said.append)
    assert not said, "".join(said)


def test_there_are_examples_of_the_main_functions():
    assert {"load_run", "estimate", "train"} <= {example.name for example in EXAMPLES}
    assert _model.Model.states.__doc__


def test_the_example_of_the_readme(tiny, tmp_path, monkeypatch):
    settling = {"relaxation.free_steps": 100, "run.epochs": 1}
    hepcli.train("quickstart", tiny | settling, tmp_path / "runs/n4")
    monkeypatch.chdir(tmp_path)
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
