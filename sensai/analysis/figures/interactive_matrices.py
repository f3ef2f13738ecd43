"""Interactive heatmaps of matrices over classes or groups. K classes."""

from collections.abc import Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go

from sensai.analysis.figures.figure_tables import MOST_LABELS, off_diagonal, owners

# A strip takes this share of each side of the figure.
_STRIP_SHARE = 0.025
_MARGIN = {"l": 20, "r": 20, "t": 30, "b": 20}
_HEIGHT = 900


def heatmap(matrix: np.ndarray, labels: Sequence[str], hover: str) -> go.Figure:
    """Draw a matrix over classes or groups.

    The diagonal outshines the rest, so the colours span the other entries.

    Args:
        matrix: (K, K).
        labels: of its rows and columns.
        hover: text for the pointer, in which `%{y}`, `%{x}` and `%{z}` are row, column and entry.
    """
    figure = go.Figure(_square(matrix, colorbar={}, hovertemplate=f"{hover}<extra></extra>"))
    axis = _axis([escape(label) for label in labels])
    return figure.update_layout(
        template="none", height=_HEIGHT, xaxis=axis, yaxis=axis | {"autorange": "reversed"}, margin=_MARGIN
    )


def coupling_heatmap(
    matrix: np.ndarray, labels: Sequence[str], groups: Sequence[Sequence[int]], order: Sequence[int]
) -> go.Figure:
    """Draw the coupling of all classes; strips above and beside it have the colours of each class's groups.

    The pointer shows both classes, their groups and the channels. The diagonal outshines the rest, so the colours span the
    other entries.

    Args:
        matrix: int (K, K), how many channels the plans of both classes remove.
        labels: of the classes, K >= 2.
        groups: every class is in at least one.
        order: the classes from left to right, K.
    """
    of_classes = owners(groups)[:, list(order)]
    places = np.arange(len(labels))
    figure = go.Figure(
        [
            _square(
                matrix[np.ix_(order, order)],
                colorbar={"title": "channels"},
                hovertemplate="%{y}<br>%{x}<br>%{z} channels<extra></extra>",
            ),
            _strip(of_classes, x=places, yaxis="y2", hovertemplate="%{x}<extra></extra>"),
            _strip(of_classes.T, y=places, xaxis="x2", hovertemplate="%{y}<extra></extra>"),
        ]
    )
    axis = _axis(
        [
            f"{escape(labels[label])} (group {', '.join(f'{number:g}' for number in own[~np.isnan(own)])})"
            for label, own in zip(order, of_classes.T, strict=True)
        ]
    )
    axis |= {"domain": [0, 1 - 1.5 * _STRIP_SHARE]}
    strip = {"domain": [1 - _STRIP_SHARE, 1], "visible": False, "fixedrange": True}
    figure.update_layout(
        template="none",
        height=_HEIGHT,
        xaxis=axis,
        yaxis=axis | {"autorange": "reversed"},
        xaxis2=strip,
        yaxis2=strip,
        margin=_MARGIN,
    )
    return figure


def _square(matrix: np.ndarray, **more: object) -> go.Heatmap:
    places = np.arange(len(matrix))
    others = off_diagonal(matrix)
    bounds = {"zmin": others.min().item(), "zmax": others.max().item()} if len(others) else {}
    return go.Heatmap(x=places, y=places, z=_compact(matrix), colorscale="Viridis", **bounds, **more)


def _strip(groups: np.ndarray, **placed: object) -> go.Heatmap:
    return go.Heatmap(z=_compact(groups), colorscale="Turbo", showscale=False, **placed)


def _axis(names: Sequence[str]) -> dict[str, object]:
    """Return an axis of the places 0 to K - 1, each under its name; names may occur twice, places do not."""
    return {
        "type": "category",
        "labelalias": {str(place): name for place, name in enumerate(names)},
        "nticks": MOST_LABELS,
        "automargin": True,
    }


def _compact(values: np.ndarray) -> np.ndarray:
    """Return counts (none below 0) in the smallest type that holds the largest, and other numbers as float32."""
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    return values.astype(np.min_scalar_type(int(values.max())))
