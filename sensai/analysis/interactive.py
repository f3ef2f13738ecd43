"""Figures for a page that stands alone: what is under the pointer is named, and any part can be enlarged. K classes."""

from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import qualitative

from sensai.analysis.plots import owners

# More names than this are not legible on an axis: of more classes some are named, and more as a part is enlarged.
_MOST_LABELS = 40
# The share of each side that the strips of the groups take.
_STRIP = 0.025
_MARGIN = {"l": 20, "r": 20, "t": 30, "b": 20}
_HEIGHT, _MATRIX_HEIGHT = 500, 900
_COLOURS = qualitative.D3


def members(table: pd.DataFrame) -> go.Figure:
    """Accuracy of each member against its FLOPs.

    Args:
        table: columns `classes`, `flops`, `binary_accuracy`, `balanced_accuracy`.
    """
    figure = go.Figure(
        [
            go.Scatter(
                x=table["flops"],
                y=table[measure],
                mode="markers",
                name=measure.replace("_", " "),
                text=[escape(classes) for classes in table["classes"]],
                hovertemplate="%{text}<br>%{x:,} FLOPs<br>%{y:.4f}",
            )
            for measure in ("balanced_accuracy", "binary_accuracy")
        ]
    )
    return figure.update_layout(template="none", height=_HEIGHT, xaxis_title="FLOPs", yaxis_title="accuracy")


def learning_curves(table: pd.DataFrame, measure: str) -> go.Figure:
    """A measure of each member by epoch, a line a member, with a mark where it was stopped.

    Args:
        table: columns `run_id`, `classes`, `epoch`, `train_loss`, `stopped_by`, and the measure.
        measure: the column that is drawn.
    """
    figure = go.Figure([_learning_curve(rows, measure) for _, rows in table.groupby("run_id", sort=False)])
    return figure.update_layout(
        template="none", height=_HEIGHT, xaxis_title="epoch", yaxis_title=measure.replace("_", " ")
    )


def _learning_curve(rows: pd.DataFrame, measure: str) -> go.Scatter:
    before = len(rows) - 1
    return go.Scatter(
        x=rows["epoch"],
        y=rows[measure],
        mode="lines+markers",
        name=escape(rows["classes"].iloc[0]),
        text=[*[""] * before, f"<br>stopped by {escape(rows['stopped_by'].iloc[0])}"],
        customdata=rows["train_loss"],
        marker={"size": [*[4] * before, 10], "symbol": [*["circle"] * before, "x"]},
        hovertemplate="epoch %{x}<br>%{y:.4f}<br>training loss %{customdata:.4g}%{text}",
    )


def accuracies(table: pd.DataFrame) -> go.Figure:
    """Test accuracy of ensembles against the FLOPs of their largest members, with the front; data sets in colours of their own.

    Args:
        table: a row a run; columns `run_id`, `name`, `data` (by which runs are comparable), `accuracy`, `flops_max`,
            `flops_total`, `base_accuracy`, `flops_base`, and `front` (bool).
    """
    traces = [
        trace
        for number, (data, rows) in enumerate(table.groupby("data", sort=False))
        for trace in _of_data(rows, escape(str(data)), _COLOURS[number % len(_COLOURS)])
    ]
    return go.Figure(traces).update_layout(
        template="none", height=_HEIGHT, xaxis_title="FLOPs of the largest member", yaxis_title="accuracy on test data"
    )


def _of_data(rows: pd.DataFrame, data: str, colour: str) -> list[go.Scatter]:
    best = rows[rows["front"]].sort_values("flops_max")
    bases = rows.drop_duplicates(["flops_base", "base_accuracy"])
    return [
        go.Scatter(
            x=rows["flops_max"],
            y=rows["accuracy"],
            mode="markers",
            name=f"ensembles, {data}",
            text=[f"{escape(name)}<br>run {run_id}" for name, run_id in zip(rows["name"], rows["run_id"], strict=True)],
            customdata=rows[["flops_total"]],
            marker={"color": colour, "size": 9},
            hovertemplate="%{text}<br>accuracy %{y:.4f}<br>%{x:,} FLOPs of the largest member"
            "<br>%{customdata[0]:,} of all<extra></extra>",
        ),
        go.Scatter(
            x=best["flops_max"],
            y=best["accuracy"],
            mode="lines",
            line={"shape": "hv", "color": colour, "width": 1},
            name=f"front, {data}",
            hoverinfo="skip",
        ),
        go.Scatter(
            x=bases["flops_base"],
            y=bases["base_accuracy"],
            mode="markers",
            name=f"base model, {data}",
            marker={"symbol": "star", "size": 13, "color": colour},
            hovertemplate="base model<br>accuracy %{y:.4f}<br>%{x:,} FLOPs<extra></extra>",
        ),
    ]


def widths(layers: pd.DataFrame) -> go.Figure:
    """Kept share of each site by depth, a line a member.

    Args:
        layers: columns `classes`, `depth`, `site`, `channels`, `kept`.
    """
    figure = go.Figure(
        [
            go.Scatter(
                x=rows["depth"],
                y=rows["kept"] / rows["channels"],
                mode="lines+markers",
                name=escape(str(classes)),
                customdata=rows[["site", "kept", "channels"]],
                hovertemplate="%{customdata[0]}<br>%{customdata[1]} of %{customdata[2]} channels",
            )
            for classes, rows in layers.groupby("classes", sort=False)
        ]
    )
    return figure.update_layout(
        template="none", height=_HEIGHT, xaxis_title="site, by depth", yaxis_title="share of channels kept"
    )


def heatmap(matrix: np.ndarray, labels: Sequence[str], told: str) -> go.Figure:
    """A matrix over classes, or groups of them; the colours span what stands off the diagonal, which outshines the rest.

    Args:
        matrix: (K, K).
        labels: of its rows and columns.
        told: of the place under the pointer, `%{y}`, `%{x}` and `%{z}`.
    """
    figure = go.Figure(_square(matrix, colorbar={}, hovertemplate=f"{told}<extra></extra>"))
    axis = _axis([escape(label) for label in labels])
    return figure.update_layout(
        template="none", height=_MATRIX_HEIGHT, xaxis=axis, yaxis=axis | {"autorange": "reversed"}, margin=_MARGIN
    )


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
    places = np.arange(len(labels))
    figure = go.Figure(
        [
            _square(
                matrix[np.ix_(order, order)],
                colorbar={"title": "channels"},
                hovertemplate="%{y}<br>%{x}<br>%{z} channels<extra></extra>",
            ),
            _strip(placed[None], x=places, yaxis="y2", hovertemplate="%{x}<extra></extra>"),
            _strip(placed[:, None], y=places, xaxis="x2", hovertemplate="%{y}<extra></extra>"),
        ]
    )
    axis = _axis([f"{escape(labels[label])} (group {owner[label]})" for label in order])
    axis |= {"domain": [0, 1 - 1.5 * _STRIP]}
    strip = {"domain": [1 - _STRIP, 1], "visible": False, "fixedrange": True}
    figure.update_layout(
        template="none",
        height=_MATRIX_HEIGHT,
        xaxis=axis,
        yaxis=axis | {"autorange": "reversed"},
        xaxis2=strip,
        yaxis2=strip,
        margin=_MARGIN,
    )
    return figure


def _square(matrix: np.ndarray, **more: object) -> go.Heatmap:
    places = np.arange(len(matrix))
    others = matrix[~np.eye(len(matrix), dtype=bool)]
    bounds = {"zmin": others.min().item(), "zmax": others.max().item()} if len(others) else {}
    return go.Heatmap(x=places, y=places, z=_compact(matrix), colorscale="Viridis", **bounds, **more)


def _strip(groups: np.ndarray, **placed: object) -> go.Heatmap:
    return go.Heatmap(z=_compact(groups), colorscale="Turbo", showscale=False, **placed)


def _axis(names: Sequence[str]) -> dict[str, object]:
    """Places from 0 to K - 1, each under its name: names may occur twice, places do not."""
    return {
        "type": "category",
        "labelalias": {str(place): name for place, name in enumerate(names)},
        "nticks": _MOST_LABELS,
        "automargin": True,
    }


def _compact(values: np.ndarray) -> np.ndarray:
    """The same in as few bytes as hold the largest, counts none below 0; four for what are no counts."""
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    return values.astype(np.min_scalar_type(int(values.max())))
