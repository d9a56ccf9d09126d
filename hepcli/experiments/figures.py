"""How all figures are drawn and saved, whatever the user's Matplotlib is set to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hepcli.errors import HepError
from hepcli.files import legible, replacing


@contextmanager
def house_style() -> Iterator[None]:
    """Draw with Matplotlib's own defaults, whatever rc file or style the user has."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


def attempt(draw: Callable[[], object], what: str) -> str | None:
    """Draw a figure; what is wrong with a picture takes nothing from the numbers it shows.

    Args:
        draw: draws and saves it.
        what: what to call it.

    Returns:
        None, or what the user should know.

    Raises:
        HepError: `draw` did.
    """
    try:
        draw()
    except HepError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever Matplotlib, its fonts or the disk raise
        return f"{what} could not be drawn: {type(error).__name__}: {error}"
    return None


def plain(text: str) -> str:
    """Text of a user, such as the name of a folder, in which dollar signs begin no mathematics."""
    return legible(text).replace("$", r"\$")


def new_figure(width: float, height: float, title: str, size: str = "medium") -> Any:
    """A figure that no window or backend takes part in; inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle(plain(title), fontsize=size)
    return figure


def save_figure(figure: Any, file: Path, **options: Any) -> None:
    """Write a figure in the format of its suffix, in place of an older one once it is whole."""
    with replacing(file) as temporary:
        figure.savefig(temporary, format=file.suffix.removeprefix("."), dpi=120, **options)
