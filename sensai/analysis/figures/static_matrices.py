"""Static figures of matrices over classes or groups. K classes."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sensai.analysis.figures.figure_tables import MOST_LABELS, off_diagonal, owners, short

# Each panel takes a part of a second to draw.
_MOST_PANELS = 20
# In inches: the smallest side of one panel, and of all panels together.
_PANEL_SIDE, _PANELS_SIDE = 3, 6
# Panels are smaller than sheets, so fewer labels and numbers are legible.
_MOST_PANEL_LABELS = 20
_MOST_NUMBERS = 10
# A sheet of the usual size has a pixel for each of so many classes. For more classes it grows, at most by the factor below.
_CLASSES_A_SHEET = 500
_LARGEST_SHEET = 4
# With more groups than these some colours look alike.
_MOST_COLOURS = 20
# Errors in orange, right answers in grey: the many right answers would else outshine all errors.
_ERRORS = colormaps["Oranges"].with_extremes(bad="lightgrey")


def heatmap(matrix: np.ndarray, labels: Sequence[str], title: str) -> Figure:
    """Draw a (K, K) matrix over classes.

    With many classes the diagonal outshines the rest, so the colours span the other entries.
    """
    figure = _sheet(len(labels))
    axes = figure.subplots()
    _draw_matrix(figure, axes, matrix, labels)
    axes.set_title(title, fontsize=10)
    return figure


def confusion(matrix: np.ndarray, labels: Sequence[str], title: str) -> Figure:
    """Draw answers by class, int (K, K): the errors in colour, the right answers of the diagonal in grey."""
    colours = Normalize(0, max(off_diagonal(matrix).max(initial=0), 1))
    figure = _sheet(len(labels))
    axes = figure.subplots()
    _draw_confusion(axes, matrix, colours)
    figure.colorbar(ScalarMappable(colours, _ERRORS), ax=axes, label="errors")
    if len(labels) <= MOST_LABELS:
        _name_ticks(axes, labels)
    axes.set_title(title, fontsize=10)
    return figure


def confusions(panels: Mapping[str, tuple[np.ndarray, Sequence[str]]], title: str) -> Figure:
    """Draw confusion matrices side by side in one scale of colours, as `confusion` draws one.

    Args:
        panels: title -> (int (g, g), labels of its g > 1 rows); at most 20 are drawn, those with the most errors.
        title: of the figure.
    """
    errors = {name: off_diagonal(matrix) for name, (matrix, _) in panels.items()}
    chosen = set(sorted(panels, key=lambda name: -errors[name].sum())[:_MOST_PANELS])
    colours = Normalize(0, max(*(errors[name].max() for name in chosen), 1))
    columns = math.ceil(math.sqrt(len(chosen)))
    rows = math.ceil(len(chosen) / columns)
    side = max(_PANEL_SIDE, _PANELS_SIDE / columns)
    figure = Figure(figsize=(side * columns + 1, side * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    shown = ((name, panel) for name, panel in panels.items() if name in chosen)
    for axes, (name, (matrix, labels)) in zip(grid.flat, shown, strict=False):
        _draw_confusion(axes, matrix, colours)
        axes.set_title(short(name), fontsize=8)
        _name_ticks(axes, labels if len(labels) <= _MOST_PANEL_LABELS else [], fontsize=7)
    for axes in grid.flat[len(chosen) :]:
        axes.set_axis_off()
    figure.colorbar(ScalarMappable(colours, _ERRORS), ax=grid, label="errors")
    note = f" (the {len(chosen)} of {len(panels)} with the most errors)" if len(chosen) < len(panels) else ""
    figure.suptitle(title + note, fontsize=10, wrap=True)
    return figure


def grouped_heatmap(
    matrix: np.ndarray, labels: Sequence[str], groups: Sequence[Sequence[int]], order: np.ndarray, title: str
) -> Figure:
    """Draw a heatmap in a given order of classes; strips above and beside it have the colours of each class's groups.

    Args:
        matrix: (K, K) over classes.
        labels: of the classes, K.
        groups: every class is in at least one.
        order: int (K,), the classes from left to right.
        title: of the figure.
    """
    figure = _sheet(len(labels))
    axes = figure.subplots()
    _draw_matrix(figure, axes, matrix[np.ix_(order, order)], [labels[place] for place in order])
    figure.suptitle(title, fontsize=10)
    of_classes = owners(groups)[:, order]
    colours = colormaps["tab20" if len(groups) <= _MOST_COLOURS else "nipy_spectral"].resampled(max(len(groups), 2))
    strips = {"above": ((0, 1.01, 1, 0.03), of_classes), "beside": ((1.01, 0, 0.03, 1), of_classes.T)}
    for name, (bounds, strip) in strips.items():
        inset = axes.inset_axes(bounds, label=name)
        inset.imshow(strip, cmap=colours, vmin=0, vmax=colours.N - 1, aspect="auto", interpolation="nearest")
        inset.set_axis_off()
    if len(groups) <= _MOST_COLOURS:
        patches = [Patch(color=colours(number), label=f"group {number}") for number in range(len(groups))]
        figure.legend(handles=patches, loc="outside lower center", ncols=10, fontsize=7)
    return figure


def _draw_confusion(axes: Axes, matrix: np.ndarray, colours: Normalize) -> None:
    right = np.eye(len(matrix), dtype=bool)
    axes.imshow(np.ma.masked_array(matrix, right), cmap=_ERRORS, norm=colours, interpolation="auto")
    if len(matrix) > _MOST_NUMBERS:
        return
    for (row, column), value in np.ndenumerate(matrix):
        colour = "white" if row != column and colours(value) > 0.6 else "black"
        # The numbers lie within the axes, so the layout need not measure each.
        axes.text(column, row, str(value), ha="center", va="center", color=colour, fontsize=7, in_layout=False)


def _sheet(classes: int) -> Figure:
    """Return an empty figure for a square matrix of so many classes."""
    scale = min(max(classes / _CLASSES_A_SHEET, 1), _LARGEST_SHEET)
    return Figure(figsize=(7 * scale, 6 * scale), layout="constrained")


def _draw_matrix(figure: Figure, axes: Axes, matrix: np.ndarray, labels: Sequence[str]) -> None:
    # With more classes than pixels this interpolation draws means, so that no class is skipped.
    image = axes.imshow(matrix, cmap="viridis", interpolation="auto")
    if len(labels) > MOST_LABELS:
        others = off_diagonal(matrix)
        image.set_clim(others.min(), others.max())
    figure.colorbar(image, ax=axes)
    if len(labels) <= MOST_LABELS:
        _name_ticks(axes, labels)


def _name_ticks(axes: Axes, labels: Sequence[str], fontsize: float | None = None) -> None:
    # Without this matplotlib reads a $ in a name as the start of a formula.
    axes.set_xticks(range(len(labels)), list(labels), rotation=90, parse_math=False, fontsize=fontsize)
    axes.set_yticks(range(len(labels)), list(labels), parse_math=False, fontsize=fontsize)
