"""An ensemble beside its base model and its yardsticks, from what their evaluate runs have logged."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from mlflow.entities import Run

from sensai.analysis.differences import accuracy_difference, base_difference
from sensai.analysis.report.summary import summary_table
from sensai.evaluation.accuracy_difference import Difference
from sensai.evaluation.roles import BASE_MODEL, ENSEMBLE, TITLES
from sensai.evaluation.verdict import Choice, Verdict, base_model, evaluated, verdict
from sensai.tracking import tags
from sensai.tracking.tracking_store import tracking_client

# The key of the command that measures yardsticks, among those of choices.
MEASURE = "measure"


@dataclass(frozen=True)
class Comparison:
    """An ensemble beside its base model and its yardsticks.

    Attributes:
        evaluation: the evaluate run of the ensemble.
        yardsticks: name of a yardstick -> its evaluate run.
        differences: name of the base model and of each yardstick -> the ensemble's accuracy less its accuracy.
    """

    evaluation: Run
    yardsticks: Mapping[str, Run]
    differences: Mapping[str, Difference]

    @classmethod
    def of(cls, evaluate_run: str, yardstick_runs: Mapping[str, str], tracking_uri: str) -> "Comparison":
        """Read the runs, and compare the answers that they logged.

        Args:
            evaluate_run: of the ensemble.
            yardstick_runs: name of a yardstick -> its evaluate run.
            tracking_uri: of the store that holds them.

        Raises:
            IncomparableError: a run has no answers, or a yardstick is on other data.
        """
        client = tracking_client(tracking_uri)
        runs = {name: client.get_run(run_id) for name, run_id in yardstick_runs.items()}
        differences = {BASE_MODEL: base_difference(evaluate_run, tracking_uri=tracking_uri)}
        for name, run_id in yardstick_runs.items():
            differences[name] = accuracy_difference(evaluate_run, run_id, tracking_uri=tracking_uri)
        return cls(client.get_run(evaluate_run), runs, differences)

    def summary(self) -> pd.DataFrame:
        """Return `summary_table` of the runs."""
        return summary_table(
            self.evaluation.data.metrics, {name: run.data.metrics for name, run in self.yardsticks.items()}
        )

    def gains(self) -> pd.DataFrame:
        """Return the gains of the ensemble in accuracy on the same test images, with paired 95 % intervals, as fractions.

        Returns:
            Rows `ensemble - base model` and `ensemble - <yardstick>`; columns difference, 95 % interval.
        """
        rows = {
            f"{TITLES[ENSEMBLE]} - {TITLES[name]}": {
                "difference": f"{each.difference:+.4f}",
                "95 % interval": f"{each.low:+.4f} to {each.high:+.4f}",
            }
            for name, each in self.differences.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("accuracy")

    @property
    def role(self) -> str:
        """Return the role of what was evaluated."""
        return self.evaluation.data.tags.get(tags.ROLE, ENSEMBLE)

    def choices(self, commands: Mapping[str, str]) -> list[Choice]:
        """Return the ensemble, its base model and the yardsticks as choices, in this order.

        The list is empty where a run has timed nothing, or on another machine than the others.

        Args:
            commands: the next command, by the name of the best choice.
        """
        runs = (self.evaluation, *self.yardsticks.values())
        if len({run.data.tags.get(tags.HOST) for run in runs}) > 1:
            return []
        judged = evaluated(self.role, self.evaluation.data.metrics, None, commands[self.role])
        rivals = [
            evaluated(name, run.data.metrics, -self.differences[name], commands[name])
            for name, run in self.yardsticks.items()
        ]
        timed = [each for each in rivals if each is not None]
        if judged is None or len(timed) < len(rivals):
            return []
        return [judged, base_model(judged, -self.differences[BASE_MODEL], commands[BASE_MODEL]), *timed]

    def verdict(self, commands: Mapping[str, str]) -> Verdict | None:
        """Return the verdict; None where there are no `choices`.

        Args:
            commands: the next command, by the name of the best choice; and under `MEASURE` the one that measures yardsticks.
        """
        choices = self.choices(commands)
        if not choices:
            return None
        judged, *rivals = choices
        unmeasured = self.role == ENSEMBLE and not self.yardsticks
        return verdict(judged, rivals, commands[MEASURE] if unmeasured else "")
