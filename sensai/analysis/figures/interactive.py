"""Interactive figures of members and ensembles for a page that stands alone; the pointer shows names and values."""

from html import escape

import pandas as pd
import plotly.graph_objects as go
from plotly.colors import qualitative

from sensai.analysis.figures.figure_tables import (
    FLOPS_LABEL,
    KEPT_LABEL,
    MEMBER_MEASURES,
    SITES_LABEL,
    label_of,
    with_shares,
)

_HEIGHT = 500
_COLOURS = qualitative.D3


def members(table: pd.DataFrame) -> go.Figure:
    """Draw the accuracy of each member against its FLOPs.

    Args:
        table: columns `classes`, `flops`, `binary_accuracy`, `balanced_accuracy`.
    """
    figure = go.Figure(
        [
            go.Scatter(
                x=table["flops"],
                y=table[measure],
                mode="markers",
                name=label_of(measure),
                text=[escape(classes) for classes in table["classes"]],
                hovertemplate="%{text}<br>%{x:,} FLOPs<br>%{y:.4f}",
            )
            for measure in MEMBER_MEASURES
        ]
    )
    return figure.update_layout(template="none", height=_HEIGHT, xaxis_title=FLOPS_LABEL, yaxis_title="accuracy")


def learning_curves(table: pd.DataFrame, measure: str) -> go.Figure:
    """Draw a measure of each member by epoch, a line a member, with a mark at the epoch after which it stopped.

    Args:
        table: columns `run_id`, `classes`, `epoch`, `train_loss`, `stopped_by`, and the measure.
        measure: the column that is drawn.
    """
    figure = go.Figure([_learning_curve(rows, measure) for _, rows in table.groupby("run_id", sort=False)])
    return figure.update_layout(template="none", height=_HEIGHT, xaxis_title="epoch", yaxis_title=label_of(measure))


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
    """Draw test accuracy of ensembles against FLOPs of their largest members, with the front; each data set has a colour.

    Args:
        table: a row a run; columns `run_id`, `name`, `data` (runs with the same value are comparable), `accuracy`, `flops_max`,
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
    """Draw the kept share of each site by depth, a line a member.

    Args:
        layers: columns `classes`, `depth`, `site`, `channels`, `kept`.
    """
    figure = go.Figure(
        [
            go.Scatter(
                x=rows["depth"],
                y=rows["share"],
                mode="lines+markers",
                name=escape(str(classes)),
                customdata=rows[["site", "kept", "channels"]],
                hovertemplate="%{customdata[0]}<br>%{customdata[1]} of %{customdata[2]} channels",
            )
            for classes, rows in with_shares(layers).groupby("classes", sort=False)
        ]
    )
    return figure.update_layout(template="none", height=_HEIGHT, xaxis_title=SITES_LABEL, yaxis_title=KEPT_LABEL)
