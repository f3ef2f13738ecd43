"""The look that the interactive figures share.

Texts and lines have no colour here: the page's stylesheet gives them one for light, dark and print. For the same reason the
heatmaps fade into the page, so that a number on a cell is legible in every scheme.
"""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

# Of Okabe and Ito, made for colour-blind readers: those that stand out on light and on dark pages.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#7A828C")
BLUE, ORANGE, GREEN, PINK, GREY = PALETTE
DASHES = ("solid", "dash", "dot", "dashdot")
NEUTRAL = "rgba(122, 130, 140, 0.22)"
ACCURACY_TICKS = {"tickformat": ".1%"}

_AXIS = {"showline": False, "zeroline": False, "ticks": "", "automargin": True, "title": {"standoff": 12}}
_TEMPLATE = go.layout.Template(
    layout={
        "colorway": PALETTE,
        "paper_bgcolor": "rgba(0, 0, 0, 0)",
        "plot_bgcolor": "rgba(0, 0, 0, 0)",
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
    }
)


def themed(traces: Sequence[go.Scatter | go.Bar | go.Heatmap], **layout: Any) -> go.Figure:
    """Return a figure of these traces in the common look.

    Args:
        traces: from back to front.
        layout: what this figure has of its own.
    """
    return go.Figure(list(traces)).update_layout(template=_TEMPLATE, **layout)


def line_style(number: int) -> dict[str, str]:
    """Return colour and dash of the line of this number; the first 20 differ."""
    return {"color": PALETTE[number % len(PALETTE)], "dash": DASHES[number // len(PALETTE) % len(DASHES)]}


def fading(colour: str) -> list[list[float | str]]:
    """Return a scale from the page's background to a colour, given as `#rrggbb`."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return [[share, f"rgba({red}, {green}, {blue}, {0.8 * share:g})"] for share in (0.0, 1.0)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return the round numbers (1, 2 or 5 times a power of ten) around and between two positive ones."""
    powers = range(-12, 16)
    steps = [step * 10.0**power for power in powers for step in (1, 2, 5)]
    return [
        each
        for each, after, before in zip(steps[1:-1], steps[2:], steps, strict=False)
        if after > low and before < high
    ]
