"""What --help looks like: options in panels, flags without a type, examples that can be pasted."""

import inspect
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from hepcli.cli._errors import EXIT_PIPE

_PANELS = {
    "Run": (),
    "Workers": ("jobs", "together", "shard", "slurm", "dry_run", "fail_fast"),
    "Data": ("data_dir", "split", "examples"),
    "Output": ("out", "report_dir", "keys", "value", "figure_format", "as_json", "quiet", "help"),
}
"""Panel to the names of its parameters, in the order of the panels; all others are in the first."""
_FEW = 8
"""Options that need no panels."""


class Command(TyperCommand):
    """A command; its docstring fills the width, and its epilog is printed as it stands: examples."""

    def __init__(self, name: str | None, **given: Any) -> None:
        super().__init__(name, **_filled(given))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, but take no option of this command for the value of another.

        Where a shell variable is empty, `--out $OUT --resume` would make a folder named --resume.
        """
        options = {name: own for own in self.get_params(ctx) for name in (*own.opts, *own.secondary_opts)}
        words = iter(args)
        for word in itertools.takewhile(lambda word: word != "--", words):
            option = options.get(word) if word.startswith("-") else None
            if option is None or option.is_flag or option.count:
                continue
            value = next(words, "")
            if value.startswith("-") and value.partition("=")[0] in options and not ctx.resilient_parsing:
                ctx.fail(
                    f"Option {word} needs a value, but {value} follows. If that is meant: {word}={value}"
                )
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed

    def get_params(self, ctx: Any) -> Any:
        """The parameters, as the help shows them."""
        params = super().get_params(ctx)
        _without_types(params)
        options = [param for param in params if param.param_type_name == "option"]
        if len(options) > _FEW:
            _to_panels(options)
            order = ["", *_PANELS]
            params.sort(key=lambda param: order.index(getattr(param, "rich_help_panel", None) or ""))
        return params

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help, and the examples below it."""
        _make_readable()
        examples, self.epilog = self.epilog, None  # Rich would fill its lines
        try:
            with _no_reader_is_no_error():
                super().format_help(ctx, formatter)
        finally:
            self.epilog = examples
        if examples:
            typer.echo(examples)


class Group(TyperGroup):
    """Commands; as `Command`."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**_filled(given))

    def get_params(self, ctx: Any) -> Any:
        """The parameters, as the help shows them."""
        params = super().get_params(ctx)
        _without_types(params)
        return params

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help."""
        with _no_reader_is_no_error():
            super().format_help(ctx, formatter)


@contextmanager
def _no_reader_is_no_error() -> Iterator[None]:
    """Rich ends the process with 1 where nobody reads stdout any more; other tools end as SIGPIPE does."""
    try:
        yield
    except SystemExit:
        raise typer.Exit(EXIT_PIPE) from None


def examples(*commands: str) -> str:
    """The epilog of a command; in a command too long for a line "\\\\" may break it, as in the shell."""
    title = " Example:" if len(commands) == 1 else " Examples:"
    return "\n".join([title, *(f"   {line}" for command in commands for line in command.splitlines())])


def _filled(given: dict[str, Any]) -> dict[str, Any]:
    """Join the lines of each paragraph of the help: the terminal decides where they break."""
    paragraphs = inspect.cleandoc(given.get("help") or "").split("\n\n")
    return given | {"help": "\n\n".join(" ".join(own.split()) for own in paragraphs)}


def _make_readable() -> None:
    """Nothing that has to be read is dim: on some palettes it cannot be."""
    from typer import rich_utils

    for name in ("HELPTEXT", "TYPES_SEPARATOR", "OPTION_DEFAULT"):
        setattr(rich_utils, f"STYLE_{name}", "")
    rich_utils.STYLE_REQUIRED_LONG = "red"


def _to_panels(options: list[Any]) -> None:
    first, *_ = _PANELS
    panels = {name: panel for panel, names in _PANELS.items() for name in names}
    for option in options:
        option.rich_help_panel = panels.get(option.name, first)


def _without_types(params: list[Any]) -> None:
    """Leave out what Typer says of types where the name says it: of flags, and of arguments."""
    for param in params:
        if getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = ""
        elif param.param_type_name == "argument" and hasattr(param, "display_type_rich"):
            param.display_type_rich = lambda ctx: None
