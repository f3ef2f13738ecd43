"""Static figures of a study: its front, its hypervolume over the trials, the importance and effect of its parameters."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sensai.analysis.figures.figure_tables import (
    VOLUME_LABELS,
    Slice,
    accuracy_column,
    importance_bars,
    label_of,
    trial_groups,
)
from sensai.analysis.figures.figure_tables import slices as parameter_slices

_COLUMNS = 4
_MARKERS = {"tune": "o", "logged": "D"}
_BAR = 0.4


def front(table: pd.DataFrame, best: pd.DataFrame, base_accuracy: float, cost: str) -> Figure:
    """Draw accuracy against cost of every trial, coloured by its epochs, with the front and the base model.

    Args:
        table: columns `calibrated_val_accuracy`, `cost`, `epochs`, `source`.
        best: the rows of `table` that are on the front, by cost.
        base_accuracy: of the base model, whose cost is 1.
        cost: label of the cost.
    """
    accuracy = accuracy_column(table)
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for label, source, rows in trial_groups(table):
        axes.scatter(rows["cost"], rows[accuracy], s=18, alpha=0.7, marker=_MARKERS[source], label=label)
    axes.step(best["cost"], best[accuracy], where="post", color="black", linewidth=1, label="front")
    axes.scatter([1.0], [base_accuracy], marker="*", s=120, color="C3", label="base model")
    axes.set_xlabel(cost)
    axes.set_ylabel(label_of(accuracy))
    axes.legend(fontsize=8)
    return figure


def hypervolume(volumes: pd.DataFrame) -> Figure:
    """Draw the hypervolume of the front after each trial.

    Args:
        volumes: columns `trial`, `hypervolume`.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.step(range(1, len(volumes) + 1), volumes["hypervolume"], where="post")
    axes.set_xlabel(VOLUME_LABELS[0])
    axes.set_ylabel(VOLUME_LABELS[1])
    return figure


def importances(weights: pd.DataFrame, objective: str) -> Figure:
    """Draw how much each parameter matters for accuracy, and for cost.

    Args:
        weights: columns `parameter`, `calibrated_val_accuracy`, `cost`, the largest first.
        objective: label of the cost.
    """
    figure = Figure(figsize=(7, 0.4 * len(weights) + 1.6), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(weights))
    for number, (label, values) in enumerate(importance_bars(weights, objective).items()):
        axes.barh(places + _BAR * (number - 0.5), values, height=_BAR, label=label)
    axes.set_yticks(places, weights["parameter"])
    axes.invert_yaxis()
    axes.set_xlabel("importance")
    axes.legend(fontsize=8)
    return figure


def slices(table: pd.DataFrame, cost: str) -> Figure:
    """Draw accuracy against each parameter, coloured by cost; a panel leaves out trials without its parameter.

    Args:
        table: columns `calibrated_val_accuracy`, `cost`, `epochs`, `params.<parameter>`.
        cost: label of the cost.
    """
    panels, accuracy = parameter_slices(table), accuracy_column(table)
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(3 * columns + 1, 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    limits = (table["cost"].min(), table["cost"].max())
    for axes, panel in zip(grid.flat, panels, strict=False):
        own = panel.trials
        points = axes.scatter(_places(axes, panel), own[accuracy], c=own["cost"], s=14, clim=limits)
        axes.set_title(panel.title, fontsize=9)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for row in grid:
        row[0].set_ylabel(label_of(accuracy), fontsize=8)
    figure.colorbar(points, ax=grid, label=cost)
    return figure


def _places(axes: Axes, panel: Slice) -> np.ndarray:
    """Return the places of a parameter's values on an axis; names stand side by side."""
    if panel.numeric:
        return panel.values.to_numpy()
    codes, names = pd.factorize(panel.values, sort=True)
    axes.set_xticks(range(len(names)), list(names), rotation=30, ha="right", fontsize=7, parse_math=False)
    return codes
