"""What was logged before, as trials of the study."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna import Study

from sensai.tuning import studies
from sensai.tuning.goals import RUN, Goal, Outcome
from sensai.tuning.space import Space


@dataclass(frozen=True)
class LoggedRun:
    """A finished run that tells what a configuration is worth.

    Attributes:
        values: parameter -> value of all that it was configured with, the epochs that it had included.
        outcome: what it found.
    """

    values: Mapping[str, Any]
    outcome: Outcome


def add_logged(study: Study, space: Space, goal: Goal, runs: Iterable[LoggedRun]) -> int:
    """Tell the study of all runs that lie in the space and that it does not know yet; returns how many these were."""
    known = {trial.user_attrs.get(RUN) for trial in study.get_trials(deepcopy=False)}
    added = 0
    for run in runs:
        if run.outcome.run_id in known or (located := space.located(run.values)) is None:
            continue
        params, distributions = located
        study.add_trial(
            optuna.create_trial(
                values=goal.values(run.outcome),
                params=params,
                distributions=distributions,
                user_attrs={studies.LOGGED: True, **goal.user_attrs(run.outcome)},
                constraints=goal.constraints(run.outcome),
            )
        )
        added += 1
    return added
