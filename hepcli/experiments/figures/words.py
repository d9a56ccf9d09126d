"""Title, caption and legends of a figure, each where it hides nothing."""

import textwrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepcli.experiments.figures.data import FigureData
from hepcli.experiments.figures.style import plain

_PAD = 0.06  # inches
_TITLE_SIZE, _CAPTION_SIZE = 9, 7
_CORNERS = ("upper right", "upper left", "lower right", "lower left")
_MOST_ABOVE = 4  # entries of a legend for which room is made above the data


def add_strips(figure: Any, data: FigureData, renderer: Any) -> None:
    """Title and caption above the panels, a shared legend below, each in room of its own."""
    width, height = figure.get_size_inches()

    def inches(artist: Any) -> float:
        return float(artist.get_window_extent(renderer).height / figure.dpi)

    above: list[tuple[Any, float]] = []
    for text, size, style in (
        (data.title, _TITLE_SIZE, {"fontweight": "bold"}),
        (data.caption, _CAPTION_SIZE, {"color": "#555555"}),
    ):
        if text:
            artist = figure.text(0, 0, text, fontsize=size, va="top", **style)
            _wrap(artist, text, (width - 2 * _PAD) * figure.dpi, renderer)
            above.append((artist, inches(artist) + _PAD))
    legend = _shared_legend(figure, width) if data.shared_legend else None
    below = 0.0 if legend is None else inches(legend) + _PAD
    top = sum(room for _, room in above) + _PAD
    total = height + top + below
    figure.set_size_inches(width, total)
    at = total - _PAD
    for artist, room in above:
        artist.set_position((_PAD / width, at / total))
        at -= room
    if legend is not None:
        legend.set_bbox_to_anchor((0.5, _PAD / 2 / total), transform=figure.transFigure)
    figure.get_layout_engine().set(rect=(0, below / total, 1, (height - _PAD) / total))


def _wrap(artist: Any, text: str, room: float, renderer: Any) -> None:
    """Break text into lines that are no wider than the room, in pixels."""
    for characters in range(len(text), 0, -1):
        artist.set_text(plain("\n".join(textwrap.wrap(text, characters, break_long_words=False))))
        if artist.get_window_extent(renderer).width <= room:
            return


def _shared_legend(figure: Any, width: float) -> Any:
    """One legend of all series, in as many columns as there is room for; None for a single series."""
    shown = [axes.get_legend_handles_labels() for axes in figure.axes]
    by_label = {
        label: handle for handles, labels in shown for handle, label in zip(handles, labels, strict=True)
    }
    if not by_label:
        return None
    longest = max(map(len, by_label))
    columns = max(1, min(len(by_label), int(width * 72 / (7 * 0.55 * (longest + 8)))))
    rows = -(-len(by_label) // columns)
    columns = -(-len(by_label) // rows)
    return figure.legend(by_label.values(), by_label, loc="lower center", ncols=columns, borderaxespad=0)


def add_legend(axes: Any, renderer: Any) -> bool:
    """A legend in a corner where it hides nothing; else in room made above, or a long one at the side.

    Returns:
        Whether it stands at the side, for which the panels have to make room.
    """
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) < 2:
        return False
    points = _drawn(axes)
    hidden = {}
    for corner in _CORNERS:
        box = axes.legend(handles, labels, loc=corner).get_window_extent(renderer)
        inside = (points > (box.x0 - 2, box.y0 - 2)) & (points < (box.x1 + 2, box.y1 + 2))
        hidden[corner] = int(inside.all(axis=1).sum())
    best = min(_CORNERS, key=lambda corner: hidden[corner])
    legend = axes.legend(handles, labels, loc=best)
    if hidden[best] and len(labels) > _MOST_ABOVE:
        axes.legend(handles, labels, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return True
    if hidden[best]:
        share = legend.get_window_extent(renderer).height / axes.get_window_extent().height
        _make_room_above(axes, min(share + 0.03, 0.6))
        axes.legend(handles, labels, loc="upper right")
    return False


def _drawn(axes: Any) -> NDArray[np.float64]:
    """Pixels along all lines and bars of a panel (points, 2)."""
    found = [np.zeros((0, 2))]
    for line in axes.get_lines():
        corners = axes.transData.transform(line.get_xydata())
        corners = corners[np.isfinite(corners).all(axis=1)]
        found.append(corners)
        between = np.linspace(0, 1, 30)[:, None, None]
        found.append((corners[:-1] * (1 - between) + corners[1:] * between).reshape(-1, 2))
    for bar in axes.patches:
        box = bar.get_window_extent()
        if np.isfinite([box.x0, box.y1]).all():
            across, up = np.meshgrid(np.linspace(box.x0, box.x1, 5), np.linspace(box.y0, box.y1, 20))
            found.append(np.stack([across.ravel(), up.ravel()], axis=1))
    return np.concatenate(found)


def _make_room_above(axes: Any, share: float) -> None:
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        axes.set_ylim(low, low * (high / low) ** (1 / (1 - share)))
    else:
        axes.set_ylim(low, low + (high - low) / (1 - share))
