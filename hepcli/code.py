"""A user's own components: files that register them, loaded, kept with runs, and noticed when they change.

A file is run as a module of its own, once; what it registers belongs to it. A run keeps a copy of its files,
and their SHA-256 in its configuration, so that whatever opens the run loads what it was trained with.
"""

import functools
import hashlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from hepcli.errors import CodeError
from hepcli.settings import ACTIVATIONS, NOT_HOLOMORPHIC, Parts

CODE_FOLDER = "code"
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_KEPT_ADVICE = "Restore the original copy, or start a new run with --code FILE.py and another --out."


class CodeFile(NamedTuple):
    """A file as it was loaded.

    Attributes:
        name: of the file, without its folder.
        sha256: of its content, in hexadecimal.
        source: its content.
        path: where it lay.
    """

    name: str
    sha256: str
    source: bytes
    path: Path


class _Loaded(NamedTuple):
    """A loaded file and what it registered."""

    file: CodeFile
    parts: list[tuple[Parts, str]]


_loaded: dict[str, _Loaded] = {}  # by name; of two files of one name the later takes the place of the first
_of_python: set[tuple[str, str]] = set()  # kind and name of parts that no file registered
_loading: list[tuple[Parts, str]] | None = None  # what the file that is being loaded has registered


def register(parts: Parts, name: str, part: Any) -> None:
    """Add a part of a user's own.

    Outside of files a part of a user's own may be registered again, as a notebook does.

    Raises:
        CodeError: the name is invalid or taken.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise CodeError(
            f"{parts.kind} {name!r}: this is not a valid name.",
            "Names consist of lower-case letters, digits and _, and start with a letter.",
        )
    if name in parts and (_loading is not None or (parts.kind, name) not in _of_python):
        raise CodeError(f'the {parts.kind} "{name}" already exists.', "Choose another name.")
    if _loading is not None:
        _loading.append((parts, name))
    else:
        _of_python.add((parts.kind, name))
    if name in parts:
        _forget_programs()
    if parts is ACTIVATIONS:
        NOT_HOLOMORPHIC.discard(name)  # what was found out of another of its name
    parts[name] = part


def load_code(paths: Sequence[Path]) -> tuple[CodeFile, ...]:
    """Run files that register parts; one that is loaded already is not run again.

    Args:
        paths: of the files.

    Returns:
        What was loaded, in order.

    Raises:
        CodeError: a file is missing, fails, registers a name that is taken, or two are called alike.
    """
    files = [_read(path) for path in paths]
    names = [file.name for file in files]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise CodeError(
            f"Two --code files are named {twice[0]}.", "Rename one of them: a run keeps both in one folder."
        )
    for file in files:
        _load(file)
    return tuple(files)


def load_kept(table: Mapping[str, Any], folder: Path | None, label: str) -> None:
    """Load the files that a configuration names, unless they are loaded.

    Args:
        table: its [code] table, as it stands.
        folder: where the copies are kept; None where there are none.
        label: what to call the configuration.

    Raises:
        CodeError: a copy is missing or was changed, or fails.
    """
    names, digests = table.get("files"), table.get("sha256")
    if not isinstance(names, list | tuple) or not isinstance(digests, list | tuple):
        return  # the configuration says what is wrong with it
    for name, digest in zip(map(str, names), map(str, digests), strict=False):
        if name in _loaded and _loaded[name].file.sha256 == digest:
            continue
        if folder is None or not (folder / Path(name).name).is_file():
            where = "" if folder is None else f", and there is no copy in {folder}"
            raise CodeError(
                f"{label} needs the file {name} with your own components{where}.",
                f"Pass it with --code {name}",
            )
        file = _read(folder / Path(name).name)
        if file.sha256 != digest:
            raise CodeError(f"{file.path} has been changed since the run was started.", _KEPT_ADVICE)
        _load(file)


def check_same(files: Sequence[CodeFile], table: Mapping[str, Any], label: str) -> None:
    """Check that files given now are those of a configuration, where they are called alike.

    Raises:
        CodeError: one has changed.
    """
    kept = dict(zip(table.get("files", ()), table.get("sha256", ()), strict=False))
    for file in files:
        if kept.get(file.name, file.sha256) != file.sha256:
            raise CodeError(
                f"{file.path} has changed since {label} was started with it.",
                f"Leave out --code {file.path}: {label} keeps a copy. Put new components in a file with "
                "another name, or start a new run with another --out.",
            )


def loaded_code(names: Sequence[str]) -> tuple[CodeFile, ...]:
    """The files of these names that are loaded."""
    return tuple(_loaded[name].file for name in names if name in _loaded)


def load_again(files: Sequence[CodeFile]) -> None:
    """Make loaded files current again, where others of their names have taken their places since."""
    for file in files:
        _load(file)


@contextmanager
def kept_current() -> Iterator[None]:
    """Make the files that are loaded now current again afterwards."""
    files = [own.file for own in _loaded.values()]
    try:
        yield
    finally:
        load_again(files)


def code_settings(files: Sequence[CodeFile]) -> dict[str, object]:
    """The keys by which a configuration records files."""
    if not files:
        return {}
    return {"code.files": [file.name for file in files], "code.sha256": [file.sha256 for file in files]}


def source_of(name: str) -> bytes:
    """The content of a loaded file."""
    return _loaded[name].file.source


def place_in_code(error: BaseException) -> str | None:
    """Where in a loaded file an error arose, in words; None where in none."""
    frame = _frame_in_code(error)
    return None if frame is None else f"{frame.filename}, line {frame.lineno}, in {frame.name}"


def _frame_in_code(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost frame of an error that is in a loaded file."""
    ours = {str(own.file.path) for own in _loaded.values()}
    seen: BaseException | None = error
    while seen is not None:
        for frame in reversed(traceback.extract_tb(seen.__traceback__)):
            if frame.filename in ours:
                return frame
        seen = seen.__cause__ or seen.__context__
    return None


def error_in_code(error: Exception) -> CodeError | None:
    """An error that arose in a user's own component, as one of ours; None where it is not theirs."""
    frame = _frame_in_code(error)
    if frame is None:
        return None
    advice = "Correct it; hep --debug … shows the whole traceback."
    if isinstance(error, FileNotFoundError) and Path(frame.filename).parent.name == CODE_FOLDER:
        advice = (
            "This is the copy that the run keeps, and files beside the original are not beside it. Pass the "
            "original with --code, or have it read them by an absolute path from the start."
        )
    return CodeError(f"{place_in_code(error)}: {_in_short(error)}", advice)


def defined_at(function: Callable[..., Any]) -> str:
    """Where a function was defined, for messages."""
    function = inspect.unwrap(functools.partial(function).func)
    code = getattr(function, "__code__", None)
    return repr(function) if code is None else f"{code.co_filename}, line {code.co_firstlineno}"


def _read(path: Path) -> CodeFile:
    try:
        source = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CodeError(f"--code {path} cannot be read: {reason}.", "Give a Python file.") from error
    if path.suffix != ".py":
        raise CodeError(f"--code {path} is not a Python file.", "Its name must end in .py.")
    return CodeFile(path.name, hashlib.sha256(source).hexdigest(), source, path)


def _load(file: CodeFile) -> None:
    """Run a file in place of one of the same name; one that fails leaves all as it was."""
    global _loading
    before = _loaded.get(file.name)
    if before is not None and before.file.sha256 == file.sha256:
        return
    taken_out = [(parts, name, parts[name]) for parts, name in before.parts] if before else []
    for parts, name, _ in taken_out:
        del parts[name]
    _loading = []
    module = ModuleType(f"hep_code_{Path(file.name).stem}")
    module.__file__ = str(file.path)
    old_module = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module  # dataclasses and pickles look their module up
    try:
        exec(compile(file.source, str(file.path), "exec"), module.__dict__)
    except BaseException as error:
        for parts, name in _loading:
            del parts[name]
        for parts, name, part in taken_out:
            parts[name] = part
        sys.modules.pop(module.__name__, None)
        if old_module is not None:
            sys.modules[module.__name__] = old_module
        if not isinstance(error, Exception | SystemExit):  # an interrupt
            raise
        raise _failed(file, error) from error
    else:
        _loaded[file.name] = _Loaded(file, _loading)
    finally:
        _loading = None
    if before is not None:
        _forget_programs()


def _failed(file: CodeFile, error: BaseException) -> CodeError:
    """The error of a file that cannot be loaded, at the line of it where that shows."""
    line = None
    if isinstance(error, SyntaxError) and error.filename == str(file.path):
        line = error.lineno
    else:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((f.lineno for f in reversed(frames) if f.filename == str(file.path)), None)
    place = f"{file.path}, line {line}" if line else str(file.path)
    advice = error.advice if isinstance(error, CodeError) else "Correct it and run the command again."
    if isinstance(error, ModuleNotFoundError):
        advice = (
            "Install that module. If it is a file of your own, merge it into the --code file: runs "
            "keep only the files named with --code."
        )
    return CodeError(f"{place}: {_in_short(error)}", advice)


def _in_short(error: BaseException) -> str:
    if isinstance(error, CodeError):
        return error.what
    text = error.msg if isinstance(error, SyntaxError) else str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _forget_programs() -> None:
    """JAX keeps programs by the names of their parts, which now mean others."""
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
