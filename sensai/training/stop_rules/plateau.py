"""Training stops where the metric no longer grows."""

import math
from collections.abc import Sequence

from sensai.training.stop_rules import STOP_RULES


@STOP_RULES.register("plateau", "after `patience` epochs without a gain of more than `min_gain`")
def plateau(values: Sequence[float], patience: int, min_gain: float) -> bool:
    """Return whether the metric has not exceeded its best by more than `min_gain` for `patience` epochs."""
    best, epochs_without_gain = -math.inf, 0
    for value in values:
        best, epochs_without_gain = (value, 0) if value > best + min_gain else (best, epochs_without_gain + 1)
    return epochs_without_gain >= patience
