"""What a study is after: accuracy and cost of a configuration, and what Optuna is told of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Objective = Literal["flops_max", "flops_total", "latency"]
Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Outcome:
    """What a configuration is worth.

    Attributes:
        val_accuracy: fraction, on validation data.
        cost: as a share of the base model's.
        run_id: the run of the last stage that it took.
        metrics: all that is known of it, logged and told with it.
    """

    val_accuracy: float
    cost: float
    run_id: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Goal:
    """Which outcomes are better.

    Attributes:
        objective: what the cost is.
        limit: most cost that is allowed; None: any.
        min_val_accuracy: least accuracy that is allowed; None: any. With neither, all trade-offs are sought.
    """

    objective: Objective
    limit: float | None = None
    min_val_accuracy: float | None = None

    @property
    def directions(self) -> dict[str, Direction]:
        """Name of each value -> minimize or maximize."""
        both: dict[str, Direction] = {"val_accuracy": "maximize", self.objective: "minimize"}
        if self.limit is not None:
            return {"val_accuracy": both["val_accuracy"]}
        return {self.objective: both[self.objective]} if self.min_val_accuracy is not None else both

    def values(self, outcome: Outcome) -> list[float]:
        """In the order of `directions`."""
        known = {"val_accuracy": outcome.val_accuracy, self.objective: outcome.cost}
        return [known[name] for name in self.directions]

    def constraints(self, outcome: Outcome) -> dict[str, float]:
        """Name -> by how much it is missed, where above 0."""
        if self.limit is not None:
            return {"limit": outcome.cost - self.limit}
        if self.min_val_accuracy is not None:
            return {"min_val_accuracy": self.min_val_accuracy - outcome.val_accuracy}
        return {}

    def user_attrs(self, outcome: Outcome) -> dict[str, Any]:
        """What stands on a trial beside its values."""
        own = {"val_accuracy": outcome.val_accuracy, "cost": outcome.cost}
        return {RUN: outcome.run_id, METRICS: {**outcome.metrics, **own}}


# Attributes of a trial: the run of the last stage that gave its outcome, and its metrics.
RUN = "run_id"
METRICS = "metrics"
