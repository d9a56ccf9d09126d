"""Help that fits the screen and tells the truth: panels, no types, examples that run as printed."""

import itertools
import os
import shlex
import subprocess
import sys

import pytest
import typer

from hepcli.cli import app
from hepcli.experiments.presets import list_presets

GROUP = typer.main.get_command(app)
DATA = GROUP.commands["data"]
COMMANDS = {name: own for name, own in GROUP.commands.items() if not own.hidden and own is not DATA}
ALL = {(name,): own for name, own in COMMANDS.items()} | {
    ("data", n): own for n, own in DATA.commands.items()
}


def hep(*words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "hepcli", *words],
        capture_output=True, text=True, check=False, env=os.environ | environment, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize("words", [(), *ALL], ids=" ".join)
def test_help_names_no_types_and_breaks_no_line_twice(words):
    shown = hep(*words, "--help", COLUMNS="80", TERM="dumb").stdout
    assert not [kind for kind in ("<bool>", "<str>", "<Path>", "<list", "BOOLEAN") if kind in shown]
    assert max(map(len, shown.splitlines())) <= 80
    prose = shown.split("╭")[0].strip().splitlines()[1:]
    longest = max((len(line) for line in prose if line.strip()), default=0)
    for line, after in itertools.pairwise(prose):
        word = after.split()[:1]
        if line.strip() and word:
            assert len(line.rstrip()) + 1 + len(word[0]) > min(78, longest), (
                f"{line!r} could hold {word[0]!r}"
            )


@pytest.mark.parametrize("words", ["train", "sweep", "measure-asymmetry"])
def test_options_are_grouped(words):
    shown = hep(words, "--help", COLUMNS="100").stdout
    titles = [line.split("─ ")[1].split(" ─")[0] for line in shown.splitlines() if line.startswith("╭─ ")]
    assert titles == [name for name in ("Arguments", "Run", "Workers", "Data", "Output") if name in titles]
    assert {"Run", "Data", "Output"} <= set(titles)


def examples():
    for words, command in ALL.items():
        text = (command.epilog or "").replace("\\\n", " ")
        for line in text.splitlines()[1:]:
            yield from ((words, part.strip()) for part in line.split("&&"))


@pytest.mark.parametrize(("words", "line"), [pytest.param(*own, id=own[1]) for own in examples()])
def test_examples_are_commands_that_hep_takes(words, line):
    name, *given = shlex.split(line.partition(">")[0])
    assert name == "hep"
    group = GROUP
    while given and given[0] in getattr(group, "commands", {}):
        group, *given = group.commands[given[0]], *given[1:]
    group.make_context(line, given)  # raises what a wrong option or value raises


def test_every_command_has_an_example():
    assert {words for words, _ in examples()} == set(ALL)


def offered(typed):
    """What bash is told at the end of a line."""
    asked = {"_HEP_COMPLETE": "complete_bash", "COMP_WORDS": typed}
    asked["COMP_CWORD"] = str(len(typed.split(" ")) - 1)
    code = "from hepcli.cli import app; app(prog_name='hep')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=False, env=os.environ | asked, timeout=120,
    )  # fmt: skip
    assert not done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("hep train --preset fashion-mnist-l", {"fashion-mnist-loop", "fashion-mnist-loop-asymep"}),
        ("hep sweep fig4-l", {"fig4-loop"}),
        ("hep presets sweeps/fig3", {"sweeps/fig3"}),
        ("hep train --set gradient.beta_r", {"gradient.beta_radius="}),
        ("hep sweep --vary network.layers.l1.un", {"network.layers.l1.units="}),
        ("hep data prepare fashion_mnist_", {"fashion_mnist_mini"}),
        ("hep eval ~nosuchuser/", set()),
    ],
)
def test_the_tab_key_offers_what_there_is(typed, expected):
    assert offered(typed) == expected


def test_the_tab_key_offers_runs(tmp_path):
    for place in ("runs/a", "runs/deep/ab", "other/b"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "config.toml").touch()
    assert offered(f"hep eval {tmp_path}/ru") == {f"{tmp_path}/runs/a", f"{tmp_path}/runs/deep/ab"}
    assert offered(f"hep plot {tmp_path}/runs/a {tmp_path}/o") == {f"{tmp_path}/other/b"}
    assert offered(f"hep eval {tmp_path}/nothing") == set()


def test_all_presets_are_offered():
    assert offered("hep presets ") == {own.name for own in list_presets()}


@pytest.mark.parametrize(
    "words", ["presets", "presets fashion-mnist", "data list --json", "--help", "train --help"]
)
def test_a_reader_who_has_seen_enough_gets_no_error(words):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "hepcli", *words.split()]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=120)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_streams_that_are_closed_take_no_command_down(closed):
    command = f"{shlex.quote(sys.executable)} -m hepcli presets {closed}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")


def test_help_survives_terminals_of_other_encodings():
    done = hep("train", "--help", PYTHONIOENCODING="latin-1")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("words", ["--help", "--version"])
def test_a_full_disk_is_said_in_words(words):
    command = f"{shlex.quote(sys.executable)} -m hepcli {words} > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
