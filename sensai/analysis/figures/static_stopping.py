"""The static figure of stop rules: accuracy given up against epochs saved."""

import pandas as pd
from matplotlib.figure import Figure

_MARKERS = "osD^vP*X<>"
_PANELS = {"given_up": "mean", "given_up_95": "95th percentile"}


def stop_regret(fronts: pd.DataFrame) -> Figure:
    """Draw accuracy given up against the share of epochs saved, one line a rule: its mean, and beside it its 95th percentile.

    Args:
        fronts: columns `rule`, `saved`, `given_up`, `given_up_95` (fractions).
    """
    figure = Figure(figsize=(11, 5), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True)
    for axes, (column, title) in zip(panels, _PANELS.items(), strict=True):
        for number, (rule, rows) in enumerate(fronts.groupby("rule", sort=False)):
            points = rows.sort_values("saved")
            axes.plot(
                100 * points["saved"],
                100 * points[column],
                marker=_MARKERS[number % len(_MARKERS)],
                markersize=4,
                linewidth=1,
                label=str(rule),
            )
        axes.axhline(0, color="grey", linewidth=0.5)
        axes.set_title(f"{title} over members", fontsize=10)
        axes.set_xlabel("epochs saved [%]")
        axes.set_ylabel("accuracy given up [points]")
    panels[0].legend(fontsize=8)
    return figure
