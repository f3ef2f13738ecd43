"""Goals of a study: accuracy and cost of a configuration, and the values that Optuna gets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Objective = Literal["flops_max", "flops_total", "latency"]
Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Outcome:
    """The result of a configuration.

    Attributes:
        val_accuracy: fraction, on validation data.
        cost: as a share of the base model's.
        run_id: the run of its last stage.
        metrics: all its metrics, logged with the trial.
    """

    val_accuracy: float
    cost: float
    run_id: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Goal:
    """The order of outcomes.

    Attributes:
        objective: the meaning of the cost.
        limit: highest allowed cost; None: any.
        min_val_accuracy: lowest allowed accuracy; None: any. With neither, all trade-offs are searched.
    """

    objective: Objective
    limit: float | None = None
    min_val_accuracy: float | None = None

    @property
    def directions(self) -> dict[str, Direction]:
        """Return the name of each value -> minimize or maximize."""
        both: dict[str, Direction] = {"val_accuracy": "maximize", self.objective: "minimize"}
        if self.limit is not None:
            return {"val_accuracy": both["val_accuracy"]}
        return {self.objective: both[self.objective]} if self.min_val_accuracy is not None else both

    def values(self, outcome: Outcome) -> list[float]:
        """Return the values in the order of `directions`."""
        known = {"val_accuracy": outcome.val_accuracy, self.objective: outcome.cost}
        return [known[name] for name in self.directions]

    def constraints(self, outcome: Outcome) -> dict[str, float]:
        """Return name -> violation; a constraint holds if it is at most 0."""
        if self.limit is not None:
            return {"limit": outcome.cost - self.limit}
        if self.min_val_accuracy is not None:
            return {"min_val_accuracy": self.min_val_accuracy - outcome.val_accuracy}
        return {}

    def user_attrs(self, outcome: Outcome) -> dict[str, Any]:
        """Return the attributes of a trial beside its values."""
        own = {"val_accuracy": outcome.val_accuracy, "cost": outcome.cost}
        return {RUN: outcome.run_id, METRICS: {**outcome.metrics, **own}}


# Attributes of a trial: the run of the last stage behind its outcome, and its metrics.
RUN = "run_id"
METRICS = "metrics"
