"""Imports point down: cli → api → experiments → config, data, checkpoints, training → networks → engine.

Settings are the leaf below all of them; so are errors, and files beneath those rooms that write.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hepcli

PACKAGE = Path(hepcli.__file__).parent
ROOMS = {
    "settings": set(),
    "engine": {"settings"},
    "networks": {"engine", "settings"},
    "training": {"networks", "engine", "settings", "errors"},
    "code": {"settings", "errors"},
    "config": {"code", "settings", "errors", "files"},
    "data": {"settings", "errors", "files"},
    "checkpoints": {"errors", "files"},
    "errors": set(),
    "files": set(),
    "experiments": {
        "code",
        "config",
        "data",
        "checkpoints",
        "training",
        "networks",
        "engine",
        "settings",
        "errors",
        "files",
    },
    "api": {"code", "experiments", "config", "data", "training", "networks", "engine", "settings", "errors"},
    "cli": {"api", "code", "config", "experiments", "settings", "errors", "files"},
}
FORBIDDEN = {  # beyond the rooms themselves
    "settings": {"jax", "flax", "optax", "numpy", "typer", "rich", "tomllib", "tomlkit", "pathlib", "os"},
    "engine": {"flax", "optax", "typer", "rich", "orbax", "logging", "time", "pydantic"},
    "networks": {"optax", "typer", "rich", "orbax", "pydantic"},
    "config": {"jax", "flax", "numpy", "typer", "rich"},
    "data": {"jax", "flax", "typer", "rich"},
    "training": {"typer", "rich", "orbax", "pydantic"},
    "experiments": {"typer", "rich", "click"},
    "api": {"typer", "rich", "orbax", "pydantic"},
    "cli": {"jax", "flax", "optax", "numpy", "click", "tensorflow_datasets"},
}


def test_shapes_are_annotated_on_plain_arrays():
    """NumPy 2.5 made `NDArray` an alias that jaxtyping refuses, so that the import failed."""
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple):
                array, *rest = node.slice.elts
                has_shape = any(isinstance(getattr(part, "value", None), str) for part in rest)
                assert not (has_shape and "NDArray" in ast.unparse(array)), f"{file}:{node.lineno}"


def imports(file: Path, *, top_level_only: bool) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


def files_of(room: str) -> list[Path]:
    single = PACKAGE / f"{room}.py"
    return [single] if single.exists() else sorted((PACKAGE / room).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_below_it(room):
    for file in files_of(room):
        for name in imports(file, top_level_only=False):
            if name.startswith("hepcli."):
                assert name.split(".")[1] in ROOMS[room] | {room}, f"{file.name} imports {name}"


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_keeps_out_what_is_not_its_business(room):
    for file in files_of(room):
        roots = {name.split(".")[0] for name in imports(file, top_level_only=False)}
        assert not roots & FORBIDDEN[room], file.name


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--help"], "measure"),
        (["train", "--set", "run.sed=1"], "run.seed"),
        (["presets", "cifar10"], "free_steps = 250"),
    ],
)
def test_help_typos_and_presets_are_shown_without_loading_jax(arguments, shown):
    code = (
        f"import sys; sys.argv = ['hep', *{arguments}]\n"
        "from hepcli.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'jax', 'flax', 'orbax', 'tensorflow_datasets', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert shown in (done.stdout + done.stderr).lower()
