"""One way to round accuracies and FLOPs in tables and texts."""

from decimal import ROUND_HALF_UP, Decimal

import pandas as pd

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"))


def rounded_accuracy(value: float, digits: int = 4) -> str:
    """Return an accuracy as text with so many digits after the point; empty where it is missing.

    A half goes up. Python's own formatting rounds the binary number, by which 0.5305 is 0.530 and 0.5715 is 0.572.

    Args:
        value: a fraction; NaN or NA: missing.
        digits: after the point.
    """
    if pd.isna(value):
        return ""
    # The mean of several accuracies misses a half in the sixteenth digit.
    exact = Decimal(f"{value:.12f}")
    return str(exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def in_short(flops: float) -> str:
    """Return a number of FLOPs to three digits, in units as papers have them."""
    factor, unit = next(((factor, unit) for factor, unit in _UNITS if flops >= factor), (1e3, "k"))
    return f"{flops / factor:.3g} {unit}"
