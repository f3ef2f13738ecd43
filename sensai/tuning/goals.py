"""Goals of a study: accuracy and cost of a configuration, and the values that Optuna gets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sensai.tracking.metric_names import CALIBRATED_VAL_ACCURACY

Objective = Literal["flops_max", "flops_total", "latency"]
Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Outcome:
    """The result of a configuration.

    Attributes:
        accuracy: `calibrated_val_accuracy`, a fraction.
        cost: as a share of the base model's.
        run_id: the run of its last stage.
        metrics: further ones, logged with the trial.
    """

    accuracy: float
    cost: float
    run_id: str
    metrics: Mapping[str, float]

    @property
    def all_metrics(self) -> dict[str, float]:
        """Return all metrics by name, accuracy and cost among them."""
        return {**self.metrics, CALIBRATED_VAL_ACCURACY: self.accuracy, "cost": self.cost}


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
        both: dict[str, Direction] = {CALIBRATED_VAL_ACCURACY: "maximize", self.objective: "minimize"}
        if self.limit is not None:
            return {CALIBRATED_VAL_ACCURACY: both[CALIBRATED_VAL_ACCURACY]}
        return {self.objective: both[self.objective]} if self.min_val_accuracy is not None else both

    def values(self, outcome: Outcome) -> list[float]:
        """Return the values in the order of `directions`."""
        known = {CALIBRATED_VAL_ACCURACY: outcome.accuracy, self.objective: outcome.cost}
        return [known[name] for name in self.directions]

    def constraints(self, outcome: Outcome) -> dict[str, float]:
        """Return name -> violation; a constraint holds if it is at most 0."""
        if self.limit is not None:
            return {"limit": outcome.cost - self.limit}
        if self.min_val_accuracy is not None:
            return {"min_val_accuracy": self.min_val_accuracy - outcome.accuracy}
        return {}

    def user_attrs(self, outcome: Outcome) -> dict[str, Any]:
        """Return the attributes of a trial beside its values."""
        return {RUN: outcome.run_id, METRICS: outcome.all_metrics}


# Attributes of a trial: the run of the last stage behind its outcome, and its metrics.
RUN = "run_id"
METRICS = "metrics"
