"""Interactive figures of a study; the pointer shows the configuration of each trial."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from sensai.analysis.figures.figure_tables import (
    EPOCHS,
    VOLUME_LABELS,
    accuracy_column,
    importance_bars,
    parameter_columns,
    parameter_name,
    trial_groups,
)
from sensai.analysis.figures.figure_tables import slices as parameter_slices
from sensai.analysis.figures.interactive_theme import ACCURACY_TICKS, GREY, themed

_SYMBOLS = {"tune": "circle", "logged": "diamond"}


def front(table: pd.DataFrame, best: pd.DataFrame, base_accuracy: float, cost: str) -> go.Figure:
    """Draw accuracy against cost of every trial, coloured by its epochs, with the front and the base model.

    Args:
        table: columns `trial`, `run_id`, `calibrated_val_accuracy`, `cost`, `epochs`, `source`, `params.<parameter>`.
        best: the rows of `table` that are on the front, by cost.
        base_accuracy: of the base model, whose cost is 1.
        cost: label of the cost.
    """
    shown, accuracy = _configurations(table), accuracy_column(table)
    trials = [
        go.Scatter(
            x=rows["cost"],
            y=rows[accuracy],
            mode="markers",
            name=label,
            text=shown[rows.index],
            marker={"symbol": _SYMBOLS[source], "size": 8, "opacity": 0.8},
            hovertemplate="%{text}<extra></extra>",
        )
        for label, source, rows in trial_groups(table)
    ]
    line = go.Scatter(
        x=best["cost"],
        y=best[accuracy],
        mode="lines",
        name="front",
        line={"shape": "hv", "color": GREY, "width": 1.5},
        hoverinfo="skip",
    )
    base = go.Scatter(
        x=[1.0],
        y=[base_accuracy],
        mode="markers",
        name="base model",
        marker={"symbol": "star", "size": 14, "color": GREY},
        hovertemplate="base model<br>accuracy %{y:.4f}<extra></extra>",
    )
    return themed(
        [line, *trials, base],
        xaxis_title=cost,
        yaxis={"title": {"text": "accuracy on validation images"}, **ACCURACY_TICKS},
    )


def hypervolume(volumes: pd.DataFrame) -> go.Figure:
    """Draw the hypervolume of the front after each trial.

    Args:
        volumes: columns `trial`, `hypervolume`.
    """
    line = go.Scatter(
        x=list(range(1, len(volumes) + 1)),
        y=volumes["hypervolume"],
        mode="lines+markers",
        line={"shape": "hv", "width": 1.5},
        customdata=volumes["trial"],
        hovertemplate="trial %{customdata}<br>hypervolume %{y:.4f}<extra></extra>",
    )
    return themed([line], xaxis_title=VOLUME_LABELS[0], yaxis_title=VOLUME_LABELS[1])


def importances(weights: pd.DataFrame, objective: str) -> go.Figure:
    """Draw how much each parameter matters for accuracy, and for cost.

    Args:
        weights: columns `parameter`, `calibrated_val_accuracy`, `cost`, the largest first.
        objective: label of the cost.
    """
    bars = [
        go.Bar(y=weights["parameter"], x=values, orientation="h", name=label, hovertemplate="%{y}<br>%{x:.3f}")
        for label, values in importance_bars(weights, objective).items()
    ]
    return themed(
        bars,
        height=100 + 50 * len(weights),
        xaxis_title="importance",
        yaxis={"autorange": "reversed", "type": "category"},
    )


def slices(table: pd.DataFrame) -> list[go.Figure]:
    """Draw accuracy against each parameter, a figure each, coloured by cost; a figure leaves out trials without its parameter.

    Args:
        table: columns `trial`, `run_id`, `calibrated_val_accuracy`, `cost`, `epochs`, `source`, `params.<parameter>`.
    """
    shown, accuracy = _configurations(table), accuracy_column(table)
    costs = {"colorscale": "Viridis", "cmin": table["cost"].min(), "cmax": table["cost"].max(), "showscale": False}
    return [
        themed(
            [
                go.Scatter(
                    x=panel.values if panel.numeric else panel.values.map(escape),
                    y=panel.trials[accuracy],
                    mode="markers",
                    text=shown[panel.trials.index],
                    marker={"color": panel.trials["cost"], "size": 8, **costs},
                    hovertemplate="%{text}<extra></extra>",
                )
            ],
            xaxis={"title": {"text": panel.title}, "type": "-" if panel.numeric else "category"},
            yaxis={"title": {"text": "accuracy"}, **ACCURACY_TICKS},
        )
        for panel in parameter_slices(table)
    ]


def _configurations(table: pd.DataFrame) -> "pd.Series[str]":
    """Return the values and the configuration of each trial as text for the pointer."""
    names, accuracy = parameter_columns(table), accuracy_column(table)
    texts = [_configuration(row, accuracy, names) for row in table.to_dict("records")]
    return pd.Series(texts, table.index, dtype="str")


def _configuration(row: Mapping[Any, Any], accuracy: str, names: Sequence[str]) -> str:
    found = f"trial {row['trial']}<br>accuracy {row[accuracy]:.4f}<br>cost {row['cost']:.4f}"
    asked = {parameter_name(name): row[name] for name in (EPOCHS, *names) if pd.notna(row[name])}
    shown = [f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}" for name, value in asked.items()]
    return "<br>".join([found, *map(escape, shown)])
