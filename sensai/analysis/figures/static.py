"""Static figures of members, runtimes and studies, as runs log them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sensai.analysis.figures.figure_tables import (
    FLOPS_LABEL,
    KEPT_LABEL,
    MEMBER_MEASURES,
    MOST_LABELS,
    SITES_LABEL,
    label_of,
    with_shares,
)

# Distance of the ways at one number in the figure of `contention`, where numbers are 1 apart.
_BETWEEN_WAYS = 0.06


def widths(layers: pd.DataFrame) -> Figure:
    """Draw the kept share of each site by depth, one line a member.

    Args:
        layers: columns `classes`, `depth`, `site`, `channels`, `kept`.
    """
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for classes, rows in with_shares(layers).groupby("classes", sort=False):
        axes.plot(rows["depth"], rows["share"], marker=".", linewidth=1, label=str(classes)[:30])
    sites = layers.drop_duplicates("depth")
    if len(sites) <= MOST_LABELS:
        axes.set_xticks(sites["depth"], sites["site"], rotation=90)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel(KEPT_LABEL)
    axes.set_xlabel(SITES_LABEL)
    if layers["classes"].nunique() <= MOST_LABELS:
        axes.legend(fontsize=7, ncols=2)
    axes.set_title("Widths of the members", fontsize=10)
    return figure


def learning_curve(history: Sequence[dict[str, float]], cuts: Sequence[int] = ()) -> Figure:
    """Draw losses by epoch, and validation metrics beside them; a dotted line marks each cut."""
    frame = pd.DataFrame(list(history))
    losses = [name for name in ("train_loss", "loss") if name in frame]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = {"train_loss": "training loss", "loss": "validation loss"}
    for name in losses:
        left.plot(frame.index, frame[name], label=names[name])
    left.legend(fontsize=8)
    for name in frame.columns.difference(losses):
        right.plot(frame.index, frame[name], label=label_of(name))
    if right.lines:
        right.legend(fontsize=8)
    right.set_title("validation", fontsize=10)
    for axes in (left, right):
        axes.set_xlabel("epoch")
        for epoch in cuts:
            axes.axvline(epoch - 0.5, color="grey", linestyle=":")
    return figure


def members(table: pd.DataFrame) -> Figure:
    """Draw the test accuracy of each member against its FLOPs.

    Args:
        table: columns `classes`, `flops`, `binary_accuracy`, `balanced_accuracy`.
    """
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for measure, marker in zip(MEMBER_MEASURES, "ox", strict=True):
        axes.scatter(table["flops"], table[measure], marker=marker, label=label_of(measure))
    if len(table) <= MOST_LABELS:
        for _, row in table.iterrows():
            axes.annotate(str(row["classes"])[:20], (row["flops"], row["balanced_accuracy"]), fontsize=7)
    axes.set_xlabel(FLOPS_LABEL)
    axes.set_ylabel("on the test split")
    axes.legend(fontsize=8)
    return figure


def reliability(curves: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], title: str) -> Figure:
    """Draw accuracy against largest probability, a small panel each; calibrated probabilities lie on the diagonal.

    The area of a mark is its share of the images.

    Args:
        curves: title -> mean largest probability, accuracy, and number of images, (bins,).
        title: of the figure.
    """
    figure = Figure(figsize=(2.4 * len(curves) + 0.4, 3.2), layout="constrained")
    panels = figure.subplots(1, len(curves), squeeze=False, sharex=True, sharey=True)[0]
    for axes, (name, (confidence, accuracy, images)) in zip(panels, curves.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle="--")
        axes.plot(confidence, accuracy, color="C0", linewidth=0.6)
        axes.scatter(confidence, accuracy, 8 + 150 * images / images.sum(), alpha=0.7)
        axes.set_aspect("equal")
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("largest probability", fontsize=8)
    panels[0].set_ylabel("accuracy", fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def runtimes(table: pd.DataFrame) -> Figure:
    """Draw the milliseconds of every runtime, a panel each for base model, ensemble and largest member.

    Args:
        table: columns `network`, `runtime`, `threads`, `median_ms` (NaN where it cannot run), `p95_ms`.
    """
    networks = table["network"].unique()
    figure = Figure(figsize=(3.6 * len(networks), 3.2), layout="constrained")
    panels = figure.subplots(1, len(networks), squeeze=False)[0]
    for axes, network in zip(panels, networks, strict=True):
        rows = table[(table["network"] == network) & table["median_ms"].notna()]
        labels = [f"{runtime} x{threads}" for runtime, threads in zip(rows["runtime"], rows["threads"], strict=True)]
        axes.barh(labels, rows["median_ms"], xerr=[0 * rows["median_ms"], rows["p95_ms"] - rows["median_ms"]])
        axes.invert_yaxis()
        axes.set_title(network, fontsize=10)
        axes.set_xlabel("ms, median and 95 %")
        axes.tick_params(axis="y", labelsize=7)
    return figure


def contention(table: pd.DataFrame) -> Figure:
    """Draw the images a second of all processes together against their number, one line a way, a panel a task.

    Args:
        table: columns `task`, `way`, `n`, `images_per_s`, and its interval `low`, `high` (NaN: none is drawn).
    """
    tasks, ways, counts = (list(table[name].unique()) for name in ("task", "way", "n"))
    figure = Figure(figsize=(4.5 * len(tasks), 4), layout="constrained")
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        for way, rows in table[table["task"] == task].groupby("way", sort=False):
            # The ways stand beside each other, so that no interval hides another.
            places = rows["n"].map(counts.index) + _BETWEEN_WAYS * (ways.index(way) - (len(ways) - 1) / 2)
            line = axes.plot(places, rows["images_per_s"], marker="o", markersize=4, label=label_of(str(way)))[0]
            axes.vlines(places, rows["low"], rows["high"], color=line.get_color(), linewidth=2)
        axes.set_xticks(range(len(counts)), counts)
        axes.set_yscale("log")
        axes.set_xlabel(f"{task}s at once")
        axes.set_ylabel("images a second, all together")
        axes.set_title(task, fontsize=10)
        axes.legend(fontsize=8)
    return figure


def study(cells: pd.DataFrame, summary: pd.DataFrame, measure: str) -> Figure:
    """Draw every repeat of every method as a point, and beside them the mean with its interval, a panel a setting.

    Repeats stand from left to right by seed: those of one seed have the same place in every method.

    Args:
        cells: columns `n_groups`, `ratio`, `method`, `seed` and `measure`.
        summary: as `grouping_results.summary` returns it.
        measure: the column of `cells` that is drawn.
    """
    n_groups, ratios = (sorted(summary[name].unique()) for name in ("n_groups", "ratio"))
    methods = list(summary["method"].unique())
    width = max(0.55 * len(methods), 2) + 0.8
    figure = Figure(figsize=(width * len(ratios), 2.6 * len(n_groups) + 0.8), layout="constrained")
    panels = figure.subplots(len(n_groups), len(ratios), squeeze=False, sharex=True)
    for row, count in zip(panels, n_groups, strict=True):
        for axes, ratio in zip(row, ratios, strict=True):
            own, means = (table[(table["n_groups"] == count) & (table["ratio"] == ratio)] for table in (cells, summary))
            _draw_repeats(axes, own, means, methods, measure)
            axes.set_title(f"{count} groups, ratio {ratio:g}", fontsize=9)
        row[0].set_ylabel(label_of(measure))
    return figure


def _draw_repeats(axes: Axes, cells: pd.DataFrame, summary: pd.DataFrame, methods: Sequence[str], measure: str) -> None:
    """Draw points in the left two thirds of each method's column, the interval in the right."""
    seeds = {seed: place for place, seed in enumerate(sorted(cells["seed"].unique()))}
    points = cells["seed"].map(seeds).to_numpy(np.float64)
    columns = cells["method"].map(methods.index).to_numpy(np.float64)
    axes.plot(
        columns - 0.4 + 0.55 * (points + 0.5) / max(len(seeds), 1), cells[measure], ".", color="grey", markersize=3
    )
    bounds = np.abs(summary[["low", "high"]].to_numpy().T - summary["mean"].to_numpy())
    places = summary["method"].map(methods.index).to_numpy(np.float64) + 0.3
    axes.errorbar(places, summary["mean"], bounds, fmt="o", color="C3", markersize=4, capsize=2)
    axes.set_xlim(-0.5, len(methods) - 0.5)
    axes.set_xticks(range(len(methods)), methods, rotation=45, ha="right", fontsize=8, parse_math=False)
    axes.set_xticks(np.arange(len(methods) - 1) + 0.5, minor=True)
    axes.tick_params(axis="x", which="minor", length=0)
    axes.grid(axis="x", which="minor", linewidth=0.5)
    axes.tick_params(axis="y", labelsize=8)
