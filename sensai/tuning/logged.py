"""Earlier logged runs as trials of the study."""

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
    """A finished run with the result of a configuration.

    Attributes:
        values: parameter -> value of its configuration, including its epochs.
        outcome: its result.
    """

    values: Mapping[str, Any]
    outcome: Outcome


def add_logged(study: Study, space: Space, goal: Goal, runs: Iterable[LoggedRun]) -> int:
    """Add all runs in the space that the study does not know yet, and return their number."""
    known = {trial.user_attrs.get(RUN) for trial in study.get_trials(deepcopy=False)}
    added = 0
    for run in runs:
        if run.outcome.run_id in known or (found := space.as_trial(run.values)) is None:
            continue
        params, distributions = found
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
