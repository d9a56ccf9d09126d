"""Links within the documents lead somewhere, and what they show works."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hepcli.config import load_config, parse_sweep
from hepcli.config.values import value_names
from hepcli.experiments.sweeps.points import expand

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    file for folder in (".", "hepcli", "presets", ".github") for file in (ROOT / folder).glob("*.md")
]
_LINK, _HEADING = re.compile(r"\]\(([^)\s]+)\)"), re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    text = document.read_text(encoding="utf-8")
    return {re.sub(r"[^\w\- ]", "", own.lower()).replace(" ", "-") for own in _HEADING.findall(text)}


def broken(document: Path) -> Iterator[str]:
    for link in _LINK.findall(document.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if "://" in link:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


def test_the_guide_names_every_recorded_value():
    """What a table, a figure or a search may use is listed where the records are described."""
    text = (ROOT / "hepcli" / "GUIDE.md").read_text(encoding="utf-8")
    names = {*value_names(over_epochs=True), *value_names(over_epochs=False)}
    assert [name for name in sorted(names) if f"`{name.rpartition('.')[2]}`" not in text] == []


def test_the_examples_in_the_guide_are_right(tmp_path):
    text = (ROOT / "hepcli" / "GUIDE.md").read_text(encoding="utf-8")
    definition, preset = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "mine.toml").write_text(preset, encoding="utf-8")
    assert load_config(str(tmp_path / "mine.toml")).config.network.layers["l2"].units == 128
    assert len(expand(parse_sweep(definition, "guide"))) == 12


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_lead_to_files_and_headings(document):
    assert list(broken(document)) == []
