"""Figures of what was logged. K classes, M members, S sites."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

# More labels than this are not legible on an axis.
_MOST_LABELS = 40
# Panels on one sheet: the most of them, which take seconds, the fewest inches of one and of all a side, and how many labels and
# numbers each can hold.
_MOST_PANELS = 20
_PANEL_SIDE, _PANELS_SIDE = 3, 6
_MOST_PANEL_LABELS = 20
_MOST_NUMBERS = 10
# So many classes of a heatmap have a pixel each on a sheet of the usual size; more get a larger one, up to so many times.
_CLASSES_A_SHEET = 500
_LARGEST_SHEET = 4
# More groups than this have no colour each that is told from all others.
_MOST_COLOURS = 20


def heatmap(matrix: np.ndarray, labels: Sequence[str], title: str) -> Figure:
    """A (K, K) matrix over classes; with many, the colours span what stands off the diagonal, which outshines the rest."""
    figure = _sheet(len(labels))
    axes = figure.subplots()
    _draw_matrix(figure, axes, matrix, labels)
    axes.set_title(title, fontsize=10)
    return figure


def heatmaps(panels: Mapping[str, tuple[np.ndarray, Sequence[str]]], title: str) -> Figure:
    """Confusion matrices side by side in one scale of colours, which spans what stands off the diagonals: the errors.

    Args:
        panels: title -> (int (g, g), labels of its g > 1 rows); where they are too many, those with the most errors are drawn.
        title: of the figure.
    """
    errors = {name: matrix[~np.eye(len(matrix), dtype=bool)] for name, (matrix, _) in panels.items()}
    chosen = set(sorted(panels, key=lambda name: -errors[name].sum())[:_MOST_PANELS])
    colours = Normalize(0, max(*(errors[name].max() for name in chosen), 1))
    columns = math.ceil(math.sqrt(len(chosen)))
    rows = math.ceil(len(chosen) / columns)
    side = max(_PANEL_SIDE, _PANELS_SIDE / columns)
    figure = Figure(figsize=(side * columns + 1, side * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    shown = ((name, panel) for name, panel in panels.items() if name in chosen)
    for axes, (name, (matrix, labels)) in zip(grid.flat, shown, strict=False):
        axes.imshow(matrix, cmap="viridis", norm=colours, interpolation="auto")
        axes.set_title(name, fontsize=8)
        _name_ticks(axes, labels if len(labels) <= _MOST_PANEL_LABELS else [], fontsize=7)
        if len(labels) <= _MOST_NUMBERS:
            _write_numbers(axes, matrix, colours)
    for axes in grid.flat[len(chosen) :]:
        axes.set_axis_off()
    figure.colorbar(ScalarMappable(colours, "viridis"), ax=grid, extend="max")
    note = f" (the {len(chosen)} of {len(panels)} with the most errors)" if len(chosen) < len(panels) else ""
    figure.suptitle(title + note, fontsize=10, wrap=True)
    return figure


def _write_numbers(axes: Axes, matrix: np.ndarray, colours: Normalize) -> None:
    for (row, column), value in np.ndenumerate(matrix):
        colour = "black" if colours(value) > 0.5 else "white"
        # Within the axes, and so of no matter to the layout, which would measure each.
        axes.text(column, row, str(value), ha="center", va="center", color=colour, fontsize=7, in_layout=False)


def grouped_heatmap(
    matrix: np.ndarray, labels: Sequence[str], groups: Sequence[Sequence[int]], order: np.ndarray, title: str
) -> Figure:
    """A heatmap in an order that puts like beside like; strips above and beside it have the colour of each class's group.

    Args:
        matrix: (K, K) over classes.
        labels: of the classes, K.
        groups: a partition of the classes.
        order: int (K,), the classes from left to right.
        title: of the figure.
    """
    figure = _sheet(len(labels))
    axes = figure.subplots()
    _draw_matrix(figure, axes, matrix[np.ix_(order, order)], [labels[place] for place in order])
    figure.suptitle(title, fontsize=10)
    owner = owners(groups)
    colours = colormaps["tab20" if len(groups) <= _MOST_COLOURS else "nipy_spectral"].resampled(max(len(groups), 2))
    strips = {"above": ((0, 1.01, 1, 0.03), owner[order][None]), "beside": ((1.01, 0, 0.03, 1), owner[order][:, None])}
    for name, (bounds, strip) in strips.items():
        inset = axes.inset_axes(bounds, label=name)
        inset.imshow(strip, cmap=colours, vmin=0, vmax=colours.N - 1, aspect="auto", interpolation="nearest")
        inset.set_axis_off()
    if len(groups) <= _MOST_COLOURS:
        patches = [Patch(color=colours(number), label=f"group {number}") for number in range(len(groups))]
        figure.legend(handles=patches, loc="outside lower center", ncols=10, fontsize=7)
    return figure


def owners(groups: Sequence[Sequence[int]]) -> np.ndarray:
    """int64 (K,): the number of each class's group in a partition."""
    owner = np.empty(sum(len(group) for group in groups), np.int64)
    for number, group in enumerate(groups):
        owner[list(group)] = number
    return owner


def _sheet(classes: int) -> Figure:
    """A sheet for a square of so many classes a side."""
    scale = min(max(classes / _CLASSES_A_SHEET, 1), _LARGEST_SHEET)
    return Figure(figsize=(7 * scale, 6 * scale), layout="constrained")


def _draw_matrix(figure: Figure, axes: Axes, matrix: np.ndarray, labels: Sequence[str]) -> None:
    # Where there are more classes than pixels these are means, so that no class is skipped.
    image = axes.imshow(matrix, cmap="viridis", interpolation="auto")
    if len(labels) > _MOST_LABELS:
        others = matrix[~np.eye(len(labels), dtype=bool)]
        image.set_clim(others.min(), others.max())
    figure.colorbar(image, ax=axes)
    if len(labels) <= _MOST_LABELS:
        _name_ticks(axes, labels)


def _name_ticks(axes: Axes, labels: Sequence[str], fontsize: float | None = None) -> None:
    # Names are names: a $ in one is no formula.
    axes.set_xticks(range(len(labels)), list(labels), rotation=90, parse_math=False, fontsize=fontsize)
    axes.set_yticks(range(len(labels)), list(labels), parse_math=False, fontsize=fontsize)


def widths(layers: pd.DataFrame) -> Figure:
    """Kept share of each site by depth, one line a member.

    Args:
        layers: columns `classes`, `depth`, `site`, `channels`, `kept`.
    """
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for classes, rows in layers.groupby("classes", sort=False):
        axes.plot(rows["depth"], rows["kept"] / rows["channels"], marker=".", linewidth=1, label=str(classes)[:30])
    sites = layers.drop_duplicates("depth")
    if len(sites) <= _MOST_LABELS:
        axes.set_xticks(sites["depth"], sites["site"], rotation=90)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("share of channels kept")
    axes.set_xlabel("site, by depth")
    if layers["classes"].nunique() <= _MOST_LABELS:
        axes.legend(fontsize=7, ncols=2)
    axes.set_title("Widths of the members", fontsize=10)
    return figure


def learning_curve(history: Sequence[dict[str, float]], cuts: Sequence[int] = ()) -> Figure:
    """Losses, and beside them the validation metrics, by epoch; dotted where channels were cut before an epoch."""
    frame = pd.DataFrame(list(history))
    losses = [name for name in ("train_loss", "loss") if name in frame]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = {"train_loss": "training loss", "loss": "validation loss"}
    for name in losses:
        left.plot(frame.index, frame[name], label=names[name])
    left.legend(fontsize=8)
    for name in frame.columns.difference(losses):
        right.plot(frame.index, frame[name], label=name.replace("_", " "))
    if right.lines:
        right.legend(fontsize=8)
    right.set_title("validation", fontsize=10)
    for axes in (left, right):
        axes.set_xlabel("epoch")
        for epoch in cuts:
            axes.axvline(epoch - 0.5, color="grey", linestyle=":")
    return figure


def members(table: pd.DataFrame) -> Figure:
    """Test accuracy of each member against its FLOPs.

    Args:
        table: columns `classes`, `flops`, `binary_accuracy`, `balanced_accuracy`.
    """
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(table["flops"], table["balanced_accuracy"], label="balanced accuracy")
    axes.scatter(table["flops"], table["binary_accuracy"], marker="x", label="binary accuracy")
    if len(table) <= _MOST_LABELS:
        for _, row in table.iterrows():
            axes.annotate(str(row["classes"])[:20], (row["flops"], row["balanced_accuracy"]), fontsize=7)
    axes.set_xlabel("FLOPs of the member")
    axes.set_ylabel("on the test split")
    axes.legend(fontsize=8)
    return figure


def reliability(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str) -> Figure:
    """A small panel each: accuracy against largest probability; on the diagonal probabilities are what they say.

    Args:
        curves: title -> mean largest probability and accuracy, float (bins,).
        title: of the figure.
    """
    figure = Figure(figsize=(2.4 * len(curves) + 0.4, 3.2), layout="constrained")
    panels = figure.subplots(1, len(curves), squeeze=False, sharex=True, sharey=True)[0]
    for axes, (name, (confidence, accuracy)) in zip(panels, curves.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
        axes.plot(confidence, accuracy, marker=".")
        axes.set_aspect("equal")
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("largest probability", fontsize=8)
    panels[0].set_ylabel("accuracy", fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def runtimes(table: pd.DataFrame) -> Figure:
    """Milliseconds of every runtime, a panel each for base model, ensemble and largest member.

    Args:
        table: columns `network`, `runtime`, `threads`, `median_ms` (none where it cannot run), `p95_ms`.
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
    """Images a second of all processes together against how many there are, one line a way, training beside scoring.

    Args:
        table: columns `task`, `way`, `n`, `images_per_s`.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    tasks = list(table["task"].unique())
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        for way, rows in table[table["task"] == task].groupby("way", sort=False):
            axes.plot(rows["n"], rows["images_per_s"], marker="o", label=str(way).replace("_", " "))
        axes.set_xticks(table["n"].unique())
        axes.set_yscale("log")
        axes.set_xlabel(f"{task}s at once")
        axes.set_ylabel("images a second, all together")
        axes.set_title(task, fontsize=10)
        axes.legend(fontsize=8)
    return figure


def study(cells: pd.DataFrame, summary: pd.DataFrame, measure: str) -> Figure:
    """A panel a setting: every repeat of every method as a point, beside them their mean with its interval.

    Repeats stand from left to right by seed, so that those of one seed have the same place in every method.

    Args:
        cells: columns `n_groups`, `ratio`, `method`, `seed` and `measure`.
        summary: of `studies.summary`.
        measure: what is drawn.
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
        row[0].set_ylabel(measure.replace("_", " "))
    return figure


def _draw_repeats(axes: Axes, cells: pd.DataFrame, summary: pd.DataFrame, methods: Sequence[str], measure: str) -> None:
    """Points in the left two thirds of each method's column, the interval in the right."""
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
