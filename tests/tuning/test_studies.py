"""Trials that are tried again: what an interruption and a failure count for."""

from optuna.trial import TrialState

from sensai.tuning import studies
from tests.helpers import toy_study


def test_an_interruption_does_not_forget_that_a_trial_was_retried(sqlite: str) -> None:
    study = toy_study.study(sqlite)
    study.ask()
    study.tell(0, state=TrialState.FAIL)
    studies.retry(study, study.trials[0])
    study.ask()
    study.tell(1, state=TrialState.FAIL)
    studies.resume(study, study.trials[1])
    resumed = study.trials[2]
    assert resumed.state == TrialState.WAITING
    assert studies.history(resumed) == studies.history(study.trials[1]) == [0]
    study.ask()
    study.tell(2, state=TrialState.FAIL)
    studies.retry(study, study.trials[2])
    assert len(study.trials) == 3, "a trial is tried again once"
