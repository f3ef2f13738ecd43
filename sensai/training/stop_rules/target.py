"""Training stops where the metric is good enough."""

from collections.abc import Sequence

from sensai.training.stop_rules import STOP_RULES


@STOP_RULES.register("target", "once the metric has reached `target`", goal=True)
def target(values: Sequence[float], target: float) -> bool:
    """Return whether the metric of the last epoch is at least the target."""
    return bool(values) and values[-1] >= target
