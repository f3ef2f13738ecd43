"""Figures of a study: its front, what it has learnt over its trials, which parameters mattered and how."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_PARAMETER = "params."
_COLUMNS = 4


def front(table: pd.DataFrame, best: pd.DataFrame, base_accuracy: float, cost: str) -> Figure:
    """Accuracy against cost of every trial, coloured by its epochs, with the front and the base model.

    Args:
        table: columns `val_accuracy`, `cost`, `epochs`, `source`.
        best: the front's rows of it, by cost.
        base_accuracy: of the base model, whose cost is 1.
        cost: what the cost is.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    markers = {"tune": "o", "logged": "D"}
    for (epochs, source), rows in table.groupby(["epochs", "source"]):
        label = f"{epochs} epochs" + (", logged before" if source == "logged" else "")
        axes.scatter(rows["cost"], rows["val_accuracy"], s=18, alpha=0.7, marker=markers[str(source)], label=label)
    axes.step(best["cost"], best["val_accuracy"], where="post", color="black", linewidth=1, label="front")
    axes.scatter([1.0], [base_accuracy], marker="*", s=120, color="C3", label="base model")
    axes.set_xlabel(cost)
    axes.set_ylabel("accuracy on validation data")
    axes.legend(fontsize=8)
    return figure


def hypervolume(volumes: pd.DataFrame) -> Figure:
    """What the front dominates, after each trial.

    Args:
        volumes: columns `trial`, `hypervolume`.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.step(range(1, len(volumes) + 1), volumes["hypervolume"], where="post")
    axes.set_xlabel("trials, logged ones first")
    axes.set_ylabel("hypervolume")
    return figure


def importances(weights: pd.DataFrame, objective: str) -> Figure:
    """Which parameters matter for accuracy, and which for cost.

    Args:
        weights: columns `parameter`, `val_accuracy`, `cost`, the largest first.
        objective: what the cost is.
    """
    figure = Figure(figsize=(7, 0.4 * len(weights) + 1.6), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(weights))
    axes.barh(places - 0.2, weights["val_accuracy"], height=0.4, label="val accuracy")
    axes.barh(places + 0.2, weights["cost"], height=0.4, label=objective)
    axes.set_yticks(places, weights["parameter"])
    axes.invert_yaxis()
    axes.set_xlabel("importance")
    axes.legend(fontsize=8)
    return figure


def slices(table: pd.DataFrame, cost: str) -> Figure:
    """Accuracy against each parameter, coloured by cost; trials that do not have the parameter are left out.

    Args:
        table: columns `val_accuracy`, `cost`, `epochs`, `params.<parameter>`.
        cost: what the cost is.
    """
    names = ["epochs", *(name for name in table.columns if name.startswith(_PARAMETER))]
    columns = min(_COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(3 * columns + 1, 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    limits = (table["cost"].min(), table["cost"].max())
    for axes, name in zip(grid.flat, names, strict=False):
        own = table[table[name].notna()]
        points = axes.scatter(_places(axes, own[name]), own["val_accuracy"], c=own["cost"], s=14, clim=limits)
        axes.set_title(name.removeprefix(_PARAMETER), fontsize=9)
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    for row in grid:
        row[0].set_ylabel("val accuracy", fontsize=8)
    figure.colorbar(points, ax=grid, label=cost)
    return figure


def _places(axes: Axes, values: pd.Series) -> np.ndarray:
    """Where values stand on an axis; names side by side."""
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return values.to_numpy()
    codes, names = pd.factorize(values.astype("str"), sort=True)
    axes.set_xticks(range(len(names)), list(names), rotation=30, ha="right", fontsize=7, parse_math=False)
    return codes
