"""Figures for a page that stands alone: what is under the pointer is named, and any part can be enlarged. K classes."""

from collections.abc import Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go

from analysis.plots import owners

# More names than this are not legible on an axis: of more classes some are named, and more as a part is enlarged.
_MOST_LABELS = 40
# The share of each side that the strips of the groups take.
_STRIP = 0.025
# Nothing that leads to other hosts: by default a button sends the figure to one.
_OFFLINE = {"showSendToCloud": False, "displaylogo": False, "responsive": True}


def fragment(figure: go.Figure, name: str) -> str:
    """A figure as HTML to stand in a page once, with the library that draws it.

    Args:
        figure: what to show.
        name: `id` of its element.
    """
    return figure.to_html(config=_OFFLINE, include_plotlyjs=True, full_html=False, div_id=name)


def coupling_heatmap(
    matrix: np.ndarray, labels: Sequence[str], groups: Sequence[Sequence[int]], order: Sequence[int]
) -> go.Figure:
    """The coupling of all classes; strips above and beside it have the colour of each class's group.

    Under the pointer stand both classes, their groups and the channels. The colours span what stands off the diagonal, which
    outshines the rest.

    Args:
        matrix: int (K, K), how many channels the plans of both classes remove.
        labels: of the classes, K >= 2.
        groups: a partition of the classes.
        order: the classes from left to right, K.
    """
    owner = owners(groups)
    placed = owner[list(order)]
    others = matrix[~np.eye(len(labels), dtype=bool)]
    places = np.arange(len(labels))
    figure = go.Figure(
        [
            go.Heatmap(
                x=places,
                y=places,
                z=_compact(matrix[np.ix_(order, order)]),
                zmin=int(others.min()),
                zmax=int(others.max()),
                colorscale="Viridis",
                colorbar={"title": "channels"},
                hovertemplate="%{y}<br>%{x}<br>%{z} channels<extra></extra>",
            ),
            _strip(placed[None], x=places, yaxis="y2", hovertemplate="%{x}<extra></extra>"),
            _strip(placed[:, None], y=places, xaxis="x2", hovertemplate="%{y}<extra></extra>"),
        ]
    )
    axis = _axis(labels, owner, order)
    strip = {"domain": [1 - _STRIP, 1], "visible": False, "fixedrange": True}
    figure.update_layout(
        template="none",
        height=900,
        xaxis=axis,
        yaxis=axis | {"autorange": "reversed"},
        xaxis2=strip,
        yaxis2=strip,
        margin={"l": 20, "r": 20, "t": 30, "b": 20},
    )
    return figure


def _strip(groups: np.ndarray, **placed: object) -> go.Heatmap:
    return go.Heatmap(z=_compact(groups), colorscale="Turbo", showscale=False, **placed)


def _axis(labels: Sequence[str], owner: np.ndarray, order: Sequence[int]) -> dict[str, object]:
    """Places from 0 to K - 1, each under the name of its class: names may occur twice, places do not."""
    names = {str(place): f"{escape(labels[label])} (group {owner[label]})" for place, label in enumerate(order)}
    return {
        "type": "category",
        "labelalias": names,
        "nticks": _MOST_LABELS,
        "domain": [0, 1 - 1.5 * _STRIP],
        "automargin": True,
    }


def _compact(numbers: np.ndarray) -> np.ndarray:
    """The same in as few bytes as hold the largest, none below 0."""
    return numbers.astype(np.min_scalar_type(int(numbers.max())))
