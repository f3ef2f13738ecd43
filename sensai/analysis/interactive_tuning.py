"""Figures of a study for a page that stands alone: under the pointer stands the configuration of each trial."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

_PARAMETER = "params."
_HEIGHT, _PANEL_HEIGHT = 500, 240
_COLUMNS = 3
_GREY = "#888"
_SYMBOLS = {"tune": "circle", "logged": "diamond"}


def front(table: pd.DataFrame, best: pd.DataFrame, base_accuracy: float, cost: str) -> go.Figure:
    """Accuracy against cost of every trial, coloured by its epochs, with the front and the base model.

    Args:
        table: columns `trial`, `run_id`, `val_accuracy`, `cost`, `epochs`, `source`, `params.<parameter>`.
        best: the front's rows of it, by cost.
        base_accuracy: of the base model, whose cost is 1.
        cost: what the cost is.
    """
    told = _configurations(table)
    trials = [
        go.Scatter(
            x=rows["cost"],
            y=rows["val_accuracy"],
            mode="markers",
            name=f"{epochs} epochs" + (", logged before" if source == "logged" else ""),
            text=told[rows.index],
            marker={"symbol": _SYMBOLS[str(source)], "size": 8, "opacity": 0.8},
            hovertemplate="%{text}<extra></extra>",
        )
        for (epochs, source), rows in table.groupby(["epochs", "source"])
    ]
    line = go.Scatter(
        x=best["cost"],
        y=best["val_accuracy"],
        mode="lines",
        name="front",
        line={"shape": "hv", "color": _GREY, "width": 1.5},
        hoverinfo="skip",
    )
    base = go.Scatter(
        x=[1.0],
        y=[base_accuracy],
        mode="markers",
        name="base model",
        marker={"symbol": "star", "size": 14, "color": _GREY},
        hovertemplate="base model<br>accuracy %{y:.4f}<extra></extra>",
    )
    return go.Figure([line, *trials, base]).update_layout(
        template="none", height=_HEIGHT, xaxis_title=cost, yaxis_title="accuracy on validation data"
    )


def hypervolume(volumes: pd.DataFrame) -> go.Figure:
    """What the front dominates, after each trial.

    Args:
        volumes: columns `trial`, `hypervolume`.
    """
    line = go.Scatter(
        x=list(range(1, len(volumes) + 1)),
        y=volumes["hypervolume"],
        mode="lines+markers",
        line={"shape": "hv"},
        customdata=volumes["trial"],
        hovertemplate="trial %{customdata}<br>hypervolume %{y:.4f}<extra></extra>",
    )
    return go.Figure(line).update_layout(
        template="none", height=_HEIGHT, xaxis_title="trials, logged ones first", yaxis_title="hypervolume"
    )


def importances(weights: pd.DataFrame, objective: str) -> go.Figure:
    """Which parameters matter for accuracy, and which for cost.

    Args:
        weights: columns `parameter`, `val_accuracy`, `cost`, the largest first.
        objective: what the cost is.
    """
    bars = [
        go.Bar(y=weights["parameter"], x=weights[name], orientation="h", name=shown, hovertemplate="%{y}<br>%{x:.3f}")
        for name, shown in (("val_accuracy", "val accuracy"), ("cost", objective))
    ]
    return go.Figure(bars).update_layout(
        template="none",
        height=100 + 50 * len(weights),
        xaxis_title="importance",
        yaxis={"autorange": "reversed", "automargin": True, "type": "category"},
    )


def slices(table: pd.DataFrame, cost: str) -> go.Figure:
    """Accuracy against each parameter, coloured by cost; trials that do not have the parameter are left out.

    Args:
        table: columns `trial`, `run_id`, `val_accuracy`, `cost`, `epochs`, `source`, `params.<parameter>`.
        cost: what the cost is.
    """
    names = ["epochs", *_parameters(table)]
    columns = min(_COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    titles = [name.removeprefix(_PARAMETER) for name in names]
    figure = make_subplots(rows, columns, shared_yaxes="all", subplot_titles=titles)
    told = _configurations(table)
    for place, name in enumerate(names):
        own = table[table[name].notna()]
        numeric = pd.api.types.is_numeric_dtype(own[name]) and not pd.api.types.is_bool_dtype(own[name])
        points = go.Scatter(
            x=own[name] if numeric else own[name].astype("str").map(escape),
            y=own["val_accuracy"],
            mode="markers",
            text=told[own.index],
            marker={"color": own["cost"], "coloraxis": "coloraxis", "size": 7},
            hovertemplate="%{text}<extra></extra>",
        )
        where = {"row": place // columns + 1, "col": place % columns + 1}
        figure.add_trace(points, **where)
        figure.update_xaxes(type="-" if numeric else "category", **where)
    return figure.update_layout(
        template="none",
        height=100 + _PANEL_HEIGHT * rows,
        showlegend=False,
        coloraxis={"colorscale": "Viridis", "colorbar": {"title": {"text": cost, "side": "right"}}},
    )


def _parameters(table: pd.DataFrame) -> list[str]:
    return [name for name in table.columns if name.startswith(_PARAMETER)]


def _configurations(table: pd.DataFrame) -> "pd.Series[str]":
    """What is told of each trial: what came out, and what it was configured with."""
    names = _parameters(table)
    return pd.Series([_configuration(row, names) for row in table.to_dict("records")], table.index, dtype="str")


def _configuration(row: Mapping[Any, Any], names: Sequence[str]) -> str:
    found = f"trial {row['trial']}<br>accuracy {row['val_accuracy']:.4f}<br>cost {row['cost']:.4f}"
    asked = {name.removeprefix(_PARAMETER): row[name] for name in ("epochs", *names) if pd.notna(row[name])}
    shown = [f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}" for name, value in asked.items()]
    return "<br>".join([found, *map(escape, shown)])
