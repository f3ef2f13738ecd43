"""Interactive figures of members and ensembles for a page that stands alone; the pointer shows names and values."""

from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sensai.analysis.figures.figure_tables import FLOPS_LABEL, MEMBER_MEASURES, MOST_LABELS, label_of, short
from sensai.analysis.figures.interactive_theme import ACCURACY_TICKS, GREY, PALETTE, line_style, log_ticks, themed

_TESTED = "accuracy on test images"
# All other columns of a table of learning curves are measured.
_OF_A_MEMBER = ["stage_run", "run_id", "member", "classes", "stopped_by"]
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "star")


def choices(table: pd.DataFrame, cost: str) -> go.Figure:
    """Draw accuracy against cost of networks that may answer, each as a mark; a hollow mark is its cost on machines of its own.

    Up is the difference from the accuracy of the first network, the ensemble, in percentage points; a bar is its interval.

    Args:
        table: one row per network, the ensemble first; columns `name`, `accuracy`, its `difference` from the ensemble's with
            the bounds `low` and `high` (fractions; NaN: no bar), `together` and `apart` (costs, positive; the same where it is
            one network).
        cost: label of the costs.
    """
    traces = [_choice(row, number) for number, row in enumerate(table.to_dict("records"))]
    costs = table[["together", "apart"]].to_numpy()
    ticks = log_ticks(costs.min(), costs.max())
    figure = themed(
        traces,
        xaxis={"title": {"text": cost}, "type": "log", "tickvals": ticks, "ticktext": [f"{each:,g}" for each in ticks]},
        yaxis={"title": {"text": f"points above the {table['name'].iloc[0]}"}, "tickformat": "+~g"},
    )
    return figure.add_hline(0, line={"color": GREY, "width": 2}, layer="below")


def _choice(row: dict, number: int) -> go.Scatter:
    """Draw one network: a filled mark, and a hollow one with a line to it where its cost on machines of its own differs."""
    costs = {"together": row["together"]} | ({"apart": row["apart"]} if row["apart"] != row["together"] else {})
    symbol, colour = _SYMBOLS[number % len(_SYMBOLS)], PALETTE[number % len(PALETTE)]
    bounds = [100 * abs(row[name] - row["difference"]) for name in ("high", "low")]
    where = {"together": "all on this machine", "apart": "a machine for each network"}
    return go.Scatter(
        x=list(costs.values()),
        y=[100 * row["difference"]] * len(costs),
        mode="lines+markers",
        name=row["name"],
        line={"color": colour, "width": 1.5},
        marker={"symbol": [symbol, f"{symbol}-open"][: len(costs)], "size": 13, "line": {"width": 2, "color": colour}},
        error_y=None if np.isnan(bounds[0]) else _bar(bounds, len(costs)),
        text=[f"{where[name]}<br>accuracy {row['accuracy']:.2%}" for name in costs],
        hovertemplate="%{text}<br>%{y:+.2f} points<br>%{x:.4g}",
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
    # From zero, because members of about the same size would else look far apart.
    flops = {"title": {"text": FLOPS_LABEL}, "rangemode": "tozero"}
    return themed(traces, xaxis=flops, yaxis={"title": {"text": _TESTED}, **ACCURACY_TICKS})


def learning_curves(table: pd.DataFrame, measure: str) -> go.Figure:
    """Draw a measure of each member by epoch, with a mark at the last epoch. Members that share all values share a line.

    Args:
        table: columns `run_id`, `classes`, `epoch`, `train_loss`, `stopped_by`, and the measure.
        measure: the column that is drawn.
    """
    found = _curves(table)
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


def _curves(table: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the rows of each line: of each member, or of one where a joint loss measured all of them together."""
    found = [rows for _, rows in table.groupby("run_id", sort=False)]
    measured = table.columns.difference(_OF_A_MEMBER)
    first, *others = (rows[measured].reset_index(drop=True) for rows in found)
    if others and all(each.equals(first) for each in others):
        return [found[0].assign(classes=f"all {len(found)} members together")]
    return found


def _learning_curve(rows: pd.DataFrame, measure: str, number: int) -> go.Scatter:
    before = len(rows) - 1
    return go.Scatter(
        x=rows["epoch"],
        y=rows[measure],
        mode="lines+markers",
        name=escape(short(rows["classes"].iloc[0])),
        line={"width": 1.5, **line_style(number)},
        text=[*[""] * before, f"<br>{_ended(rows['stopped_by'].iloc[0])}"],
        customdata=rows["train_loss"],
        marker={"size": [*[4] * before, 10], "symbol": [*["circle"] * before, "x"], "line": {"width": 0}},
        hovertemplate="epoch %{x}<br>%{y:.4f}<br>training loss %{customdata:.4g}%{text}",
    )


def _ended(reason: str) -> str:
    return "trained all epochs" if reason == "epochs" else f"stopped early by {escape(reason)}"


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
