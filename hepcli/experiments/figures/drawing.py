"""From the data of a figure to its picture; Matplotlib is loaded when one is drawn."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hepcli.experiments.figures.data import FigureData, write_data
from hepcli.experiments.figures.panels import draw_panel, is_empty
from hepcli.experiments.figures.style import house_style, new_figure, save_figure
from hepcli.experiments.figures.words import add_legend, add_strips

_WIDTHS = (4.4, 7.0, 7.4, 9.6)  # inches, by number of columns
_PANEL_HEIGHT = 2.35
_MOST_NAMES = 6  # along a narrow panel
_MAP_SIZE = (3.6, 2.8)


def draw_figure(data: FigureData, file: Path) -> None:
    """Draw a figure, and save its data beside it.

    Args:
        data: what it shows.
        file: picture to write, .png, .pdf or .svg.
    """
    write_data(data, file)
    redraw(data, file)


@house_style()
def redraw(data: FigureData, file: Path) -> None:
    """Draw a figure from its data alone, in the house style.

    Args:
        data: what it shows, such as `read_data` gives.
        file: picture to write, .png, .pdf or .svg.
    """
    save_figure(compose(data), file)


def compose(data: FigureData) -> Any:
    """Matplotlib's figure of the data; within `house_style`."""
    columns = max(1, min(data.columns, len(data.panels)))
    rows = -(-len(data.panels) // columns)
    size = _WIDTHS[min(columns, len(_WIDTHS)) - 1], _PANEL_HEIGHT * rows
    first = data.panels[0]
    names, series = len(first.x.names or ()), len(first.series)
    if len(data.panels) == 1 and max(names, series, names * series / 4) > _MOST_NAMES:
        size = _WIDTHS[1], _PANEL_HEIGHT
    figure = new_figure(*(_MAP_SIZE if first.kind == "map" else size))
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid[len(data.panels) :]:
        axes.remove()
    panels = list(zip(grid, data.panels, strict=False))
    for axes, panel in panels:
        draw_panel(axes, panel)
    _share_epochs([axes for axes, panel in panels if panel.x.label == "epoch" and not is_empty(panel)])
    renderer = _renderer(figure)
    add_strips(figure, data, renderer)
    if not data.shared_legend:
        figure.draw_without_rendering()
        beside = [add_legend(axes, renderer) for axes, _ in panels]
        if not any(beside):
            figure.set_layout_engine("none")  # it is laid out: once more would take as long again
    return figure


def _share_epochs(panels: Sequence[Any]) -> None:
    """One range of epochs for all panels."""
    ends = [end for axes in panels for end in axes.get_xlim()]
    for axes in panels:
        axes.set_xlim(min(ends), max(ends))


def _renderer(figure: Any) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    return canvas.get_renderer()
