"""Interactive figures of members and ensembles for a page that stands alone; the pointer shows names and values."""

from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sensai.analysis.figures.figure_tables import FLOPS_LABEL, MEMBER_MEASURES, MOST_LABELS, label_of, short
from sensai.analysis.figures.interactive_theme import ACCURACY_TICKS, GREY, PALETTE, line_style, log_ticks, themed

_TESTED = "accuracy on test images"
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "star")


def choices(table: pd.DataFrame, cost: str) -> go.Figure:
    """Draw accuracy against cost of networks that may answer, each as a mark; a hollow mark is its cost on machines of its own.

    A dotted line is the accuracy of the first network, the ensemble. The bar of another one is the interval of the difference
    between both.

    Args:
        table: a row a network, the ensemble first; columns `name`, `accuracy`, `low`, `high` (bounds of the bar, NaN: none),
            `together` and `apart` (costs, positive; the same where it is one network).
        cost: label of the costs.
    """
    traces = [_choice(row, number) for number, row in enumerate(table.to_dict("records"))]
    costs = table[["together", "apart"]].to_numpy()
    ticks = log_ticks(costs.min(), costs.max())
    figure = themed(
        traces,
        xaxis={"title": {"text": cost}, "type": "log", "tickvals": ticks, "ticktext": [f"{each:,g}" for each in ticks]},
        yaxis={"title": {"text": _TESTED}, **ACCURACY_TICKS},
    )
    return figure.add_hline(table["accuracy"].iloc[0], line={"color": GREY, "width": 1, "dash": "dot"}, layer="below")


def _choice(row: dict, number: int) -> go.Scatter:
    """Draw one network: a filled mark, and a hollow one with a line to it where its cost on machines of its own differs."""
    costs = {"together": row["together"]} | ({"apart": row["apart"]} if row["apart"] != row["together"] else {})
    symbol, colour = _SYMBOLS[number % len(_SYMBOLS)], PALETTE[number % len(PALETTE)]
    bounds = [abs(row[name] - row["accuracy"]) for name in ("high", "low")]
    where = {"together": "all on this machine", "apart": "a machine for each network"}
    return go.Scatter(
        x=list(costs.values()),
        y=[row["accuracy"]] * len(costs),
        mode="lines+markers",
        name=row["name"],
        line={"color": colour, "width": 1.5},
        marker={"symbol": [symbol, f"{symbol}-open"][: len(costs)], "size": 13, "line": {"width": 2, "color": colour}},
        error_y=None if np.isnan(bounds[0]) else _bar(bounds, len(costs)),
        text=[where[name] for name in costs],
        hovertemplate="%{text}<br>%{x:.4g}<br>accuracy %{y:.4f}",
    )


def _bar(bounds: list[float], marks: int) -> dict[str, object]:
    """Return an error bar on the first of some marks; `bounds` are its lengths upwards and downwards."""
    above, below = ([each, *[0.0] * (marks - 1)] for each in bounds)
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.5, "width": 5}


def members(table: pd.DataFrame) -> go.Figure:
    """Draw the accuracy of each member against its FLOPs.

    Args:
        table: columns `classes`, `flops`, `binary_accuracy`, `balanced_accuracy`.
    """
    traces = [
        go.Scatter(
            x=table["flops"],
            y=table[measure],
            mode="markers",
            name=label_of(measure),
            marker={"size": 9, "symbol": _SYMBOLS[number], "opacity": 0.85},
            text=[escape(classes) for classes in table["classes"]],
            hovertemplate="%{text}<br>%{x:,} FLOPs<br>%{y:.4f}",
        )
        for number, measure in enumerate(MEMBER_MEASURES)
    ]
    return themed(traces, xaxis_title=FLOPS_LABEL, yaxis={"title": {"text": _TESTED}, **ACCURACY_TICKS})


def learning_curves(table: pd.DataFrame, measure: str) -> go.Figure:
    """Draw a measure of each member by epoch, a line a member, with a mark at the epoch after which it stopped.

    Args:
        table: columns `run_id`, `classes`, `epoch`, `train_loss`, `stopped_by`, and the measure.
        measure: the column that is drawn.
    """
    found = [rows for _, rows in table.groupby("run_id", sort=False)]
    traces = [_learning_curve(rows, measure, number) for number, rows in enumerate(found)]
    # Plotly would also mark halves of epochs.
    step = 1 if table["epoch"].nunique() <= MOST_LABELS // 4 else None
    ticks = {} if measure == "train_loss" else ACCURACY_TICKS
    return themed(
        traces,
        xaxis={"title": {"text": "epoch"}, "tickformat": "d", "dtick": step},
        yaxis={"title": {"text": label_of(measure)}, **ticks},
        showlegend=len(found) <= MOST_LABELS,
    )


def _learning_curve(rows: pd.DataFrame, measure: str, number: int) -> go.Scatter:
    before = len(rows) - 1
    return go.Scatter(
        x=rows["epoch"],
        y=rows[measure],
        mode="lines+markers",
        name=escape(short(rows["classes"].iloc[0])),
        line={"width": 1.5, **line_style(number)},
        text=[*[""] * before, f"<br>stopped by {escape(rows['stopped_by'].iloc[0])}"],
        customdata=rows["train_loss"],
        marker={"size": [*[4] * before, 10], "symbol": [*["circle"] * before, "x"], "line": {"width": 0}},
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
        for trace in _of_data(rows, escape(str(data)), PALETTE[number % len(PALETTE)])
    ]
    return themed(
        traces, xaxis_title="FLOPs of the largest member", yaxis={"title": {"text": _TESTED}, **ACCURACY_TICKS}
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
            marker={"color": colour, "size": 11},
            hovertemplate="%{text}<br>accuracy %{y:.4f}<br>%{x:,} FLOPs of the largest member"
            "<br>%{customdata[0]:,} of all<extra></extra>",
        ),
        go.Scatter(
            x=best["flops_max"],
            y=best["accuracy"],
            mode="lines",
            line={"shape": "hv", "color": colour, "width": 1.5},
            name=f"front, {data}",
            hoverinfo="skip",
        ),
        go.Scatter(
            x=bases["flops_base"],
            y=bases["base_accuracy"],
            mode="markers",
            name=f"base model, {data}",
            marker={"symbol": "star", "size": 14, "color": colour},
            hovertemplate="base model<br>accuracy %{y:.4f}<br>%{x:,} FLOPs<extra></extra>",
        ),
    ]
