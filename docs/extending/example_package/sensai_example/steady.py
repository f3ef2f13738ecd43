"""Training stops once the metric hardly moves."""

from collections.abc import Sequence

from sensai.training.stop_rules import STOP_RULES


@STOP_RULES.register("steady", "once two epochs in a row move the metric by at most `min_gain`")
def steady(values: Sequence[float], min_gain: float) -> bool:
    """Return True if the last three values lie within `min_gain`."""
    return len(values) > 2 and max(values[-3:]) - min(values[-3:]) <= min_gain
