"""The house style of all figures, and how they are saved, whatever the user's Matplotlib is set to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from hepcli.errors import HepError
from hepcli.files import legible, replacing

FigureFormat = Literal["png", "pdf", "svg"]
FORMATS: tuple[FigureFormat, ...] = get_args(FigureFormat)

# Okabe & Ito (2008), told apart by colour-blind eyes too; grey for their yellow, too pale for lines on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
BLACK = _COLOURS.index("#000000")
"""The look of what no legend names."""
_MARKERS = "os^Dv<P>X*"
_LINE_STYLES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (1.2, 1.2)))
_HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++", "oooo")

_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "hatch.linewidth": 0.5,
    "pdf.fonttype": 42,  # text stays text, as journals ask
    "svg.hashsalt": "hep",  # the same figure is the same file
}


class Look(NamedTuple):
    """What a series looks like: never told apart by its colour alone."""

    color: str
    marker: str
    linestyle: Any
    hatch: str


def look_of(place: int) -> Look:
    """The look of the series at a place of a figure, from 0; 28 differ in colour, line or hatch."""
    turn, colour = divmod(place, len(_COLOURS))
    return Look(
        _COLOURS[colour],
        _MARKERS[(colour + 3 * turn) % len(_MARKERS)],
        _LINE_STYLES[(colour + turn) % len(_LINE_STYLES)],
        _HATCHES[(colour + turn) % len(_HATCHES)],
    )


@contextmanager
def house_style() -> Iterator[None]:
    """Draw in the house style, whatever rc file or style the user has."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def attempt(draw: Callable[[], object], what: str) -> str | None:
    """Draw a figure; what is wrong with a picture takes nothing from the numbers it shows.

    Args:
        draw: draws and saves it.
        what: what to call it.

    Returns:
        None, or what the user should know.

    Raises:
        HepError: `draw` raised it.
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


def new_figure(width: float, height: float) -> Any:
    """A figure that no window or backend takes part in; inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, file: Path) -> None:
    """Write a figure in the format of the file's name, in place of an older one once it is whole.

    Args:
        figure: Matplotlib's.
        file: ends in .png, .pdf or .svg.
    """
    kind = file.suffix.lower().removeprefix(".")
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
    with replacing(file) as temporary:
        figure.savefig(temporary, format=kind, dpi=200, metadata=undated)
