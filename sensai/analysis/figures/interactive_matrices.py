"""Interactive heatmaps: of matrices over classes or groups, and of the widths of members. K classes.

A scale begins at the page's own background, so that zero looks like nothing. Numbers stand on the cells while they are legible.
"""

from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sensai.analysis.figures.figure_tables import (
    KEPT_LABEL,
    MOST_LABELS,
    SITES_LABEL,
    off_diagonal,
    owners,
    short,
    with_shares,
)
from sensai.analysis.figures.interactive_theme import BLUE, NEUTRAL, ORANGE, PALETTE, fading, themed

# A strip takes this share of each side of the figure.
_STRIP_SHARE = 0.025
# With more columns than these no number fits on a cell.
_MOST_NUMBERS = 20
# In pixels, between cells with numbers.
_GAP = 2
_COLORBAR = {"thickness": 12, "outlinewidth": 0, "len": 0.8}


def confusion(matrix: np.ndarray, labels: Sequence[str]) -> go.Figure:
    """Draw answers by class: the errors in colour, the right answers of the diagonal in grey.

    Args:
        matrix: int (K, K), images by class (row) and answer (column).
        labels: of classes or groups, K.
    """
    places, right, errors = np.arange(len(matrix)), np.diagonal(matrix), matrix.copy()
    np.fill_diagonal(errors, 0)
    coloured = _square(
        errors,
        ORANGE,
        zmin=0,
        zmax=max(int(errors.max()), 1),
        colorbar=_COLORBAR | {"title": {"text": "errors"}, "tickformat": "d", "dtick": _whole_step(int(errors.max()))},
        hovertemplate=_told("answered %{x}", "%{z} images"),
    )
    grey = go.Heatmap(
        x=places,
        y=places,
        z=_compact(right),
        colorscale=[[0, NEUTRAL], [1, NEUTRAL]],
        showscale=False,
        hoverongaps=False,
        texttemplate=coloured.texttemplate and "%{z}",
        xgap=coloured.xgap,
        ygap=coloured.ygap,
        hovertemplate=_told("answered rightly", "%{z} images"),
    )
    return _over_classes([coloured, grey], _axis(list(map(short, labels))))


def heatmap(matrix: np.ndarray, labels: Sequence[str], told: str) -> go.Figure:
    """Draw a matrix over classes or groups.

    The diagonal outshines the rest, so the colours span the other entries.

    Args:
        matrix: (K, K).
        labels: of its rows and columns.
        told: text of an entry for the pointer, in which `%{z}` is its value.
    """
    square = _square(matrix, BLUE, colorbar=_COLORBAR, hovertemplate=_told("%{x}", told), **_bounds(matrix))
    return _over_classes([square], _axis(list(map(short, labels))))


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
    together = [short("+".join(labels[label] for label in group)) for group in groups]
    traces = [
        _square(
            matrix[np.ix_(order, order)],
            BLUE,
            colorbar=_COLORBAR | {"title": {"text": "channels"}},
            hovertemplate=_told("%{x}", "%{z} channels"),
            **_bounds(matrix),
        ),
        _strip(of_classes, x=places, yaxis="y2", hovertemplate="%{x}<extra></extra>"),
        _strip(of_classes.T, y=places, xaxis="x2", hovertemplate="%{y}<extra></extra>"),
    ]
    axis = _axis(
        [
            f"{short(labels[label])} (in {', '.join(together[int(number)] for number in own[~np.isnan(own)])})"
            for label, own in zip(order, of_classes.T, strict=True)
        ]
    )
    axis |= {"domain": [0, 1 - 1.5 * _STRIP_SHARE]}
    strip = {"domain": [1 - _STRIP_SHARE, 1], "visible": False, "fixedrange": True}
    return _over_classes(traces, axis).update_layout(xaxis2=strip, yaxis2=strip)


def widths(layers: pd.DataFrame) -> go.Figure:
    """Draw the share of channels that each member keeps at each site: a row a member, a column a site by depth.

    Args:
        layers: columns `member`, `classes`, `depth`, `site`, `channels`, `kept`.
    """
    shares = with_shares(layers)
    sites = shares.drop_duplicates("depth").sort_values("depth")["site"]
    names = shares.drop_duplicates("member").sort_values("member")["classes"]
    # Every member has a row a site.
    ordered = shares.sort_values(["member", "depth"])
    tables = {name: ordered[name].to_numpy().reshape(len(names), -1) for name in ("share", "kept", "channels")}
    few = len(sites) <= _MOST_NUMBERS and len(names) <= MOST_LABELS
    cells = go.Heatmap(
        x=np.arange(len(sites)),
        y=np.arange(len(names)),
        z=_compact(tables["share"]),
        zmin=0,
        zmax=1,
        colorscale=fading(BLUE),
        colorbar=_COLORBAR | {"title": {"text": KEPT_LABEL, "side": "right"}, "tickformat": ".0%"},
        customdata=np.stack([_compact(tables[name]) for name in ("kept", "channels")], axis=-1),
        text=tables["kept"] if few else None,
        texttemplate="%{text}" if few else None,
        hovertemplate="%{y}<br>%{x}<br>%{customdata[0]} of %{customdata[1]} channels<extra></extra>",
        xgap=_GAP if few else 0,
        ygap=_GAP if few else 0,
    )
    columns = _axis(list(map(short, sites))) | {"title": {"text": SITES_LABEL}}
    rows = _axis(list(map(short, names))) | {"autorange": "reversed", "title": {"text": "member"}}
    return themed([cells], xaxis=columns, yaxis=rows)


def _over_classes(traces: Sequence[go.Heatmap], axis: dict[str, object]) -> go.Figure:
    return themed(traces, xaxis=axis, yaxis=axis | {"autorange": "reversed"})


def _whole_step(most: int) -> int | None:
    """Return the distance of ticks of a count, where Plotly would also mark fractions."""
    return 1 if most <= _MOST_NUMBERS // 2 else None


def _told(column: str, entry: str) -> str:
    return f"%{{y}}<br>{column}<br>{entry}<extra></extra>"


def _square(matrix: np.ndarray, colour: str, **more: object) -> go.Heatmap:
    """Draw a matrix in shades of a colour; where numbers fit, they stand on its cells, without those that are zero."""
    places = np.arange(len(matrix))
    few = len(matrix) <= _MOST_NUMBERS
    number = "{:.2f}" if matrix.dtype.kind == "f" else "{}"
    shown = [[number.format(each) if each else "" for each in row] for row in matrix.tolist()] if few else None
    return go.Heatmap(
        x=places,
        y=places,
        z=_compact(matrix),
        colorscale=fading(colour),
        text=shown,
        texttemplate="%{text}" if few else None,
        xgap=_GAP if few else 0,
        ygap=_GAP if few else 0,
        **more,
    )


def _bounds(matrix: np.ndarray) -> dict[str, float]:
    """Return the least and the largest entry off the diagonal as bounds of the colours."""
    others = off_diagonal(matrix)
    return {"zmin": others.min().item(), "zmax": others.max().item()} if len(others) else {}


def _strip(groups: np.ndarray, **placed: object) -> go.Heatmap:
    """Draw the groups of each class, neighbours in different colours of the palette."""
    count = len(PALETTE)
    steps = [[place / count, colour] for number, colour in enumerate(PALETTE) for place in (number, number + 1)]
    bounds = {"zmin": -0.5, "zmax": count - 0.5}
    return go.Heatmap(z=_compact(groups % count), colorscale=steps, **bounds, showscale=False, **placed)


def _axis(names: Sequence[str]) -> dict[str, object]:
    """Return an axis of the places 0 to K - 1, each under its name; names may occur twice, places do not."""
    return {
        "type": "category",
        "labelalias": {str(place): escape(name) for place, name in enumerate(names)},
        "nticks": MOST_LABELS,
        "showgrid": False,
    }


def _compact(values: np.ndarray) -> np.ndarray:
    """Return counts (none below 0) in the smallest type that holds the largest, and other numbers as float32."""
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    return values.astype(np.min_scalar_type(int(values.max())))
