"""A worker of a study: it asks for configurations, evaluates them and reports the results. Several may share a study."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna import Study, Trial, TrialPruned
from optuna.trial import FrozenTrial, TrialState

from sensai.errors import InputError, StorageError
from sensai.files import storage_error
from sensai.tuning import studies
from sensai.tuning.goals import Goal, Outcome
from sensai.tuning.sampler import TrialSampler
from sensai.tuning.space import Space, Values

_log = logging.getLogger(__name__)

# The space counts as exhausted when the sampler repeats known configurations so many times in a row.
_MOST_REPEATS = 20
_SECONDS_BETWEEN_LOOKS = 0.5
# Attributes of a trial: why it failed, and that a retry may help.
_FAILURE = "failure"
_RETRY = "retry"


class _SurplusError(Exception):
    """Ends a surplus trial before it has sampled anything, so that it is never counted."""


Evaluate = Callable[[Trial, Values], Outcome]


@dataclass
class Worker:
    """The part of one process in a study.

    Attributes:
        study: its sampler is a TrialSampler.
        space: of the configurations.
        goal: turns their outcomes into values.
        evaluate: evaluates a configuration.
        propose: returns the fixed parameters of the next new trial, given all trials.
        interrupted: returns True if the user wants it to end.
    """

    study: Study
    space: Space
    goal: Goal
    evaluate: Evaluate
    propose: Callable[[list[FrozenTrial]], Mapping[str, Any]]
    interrupted: Callable[[], bool] = lambda: False
    _running: int | None = None
    _trials: int = 0
    _unwritable: StorageError | None = None

    def run(self, trials: int) -> None:
        """Work until the study has asked for so many configurations and all have results, from any worker.

        Raises:
            KeyboardInterrupt: the user wants it to end; a started trial will be resumed later.
            StorageError: a trial could not write its files; others would fail too.
        """
        self._trials, repeats = trials, 0
        while trials and repeats < _MOST_REPEATS:
            if self.interrupted():
                raise KeyboardInterrupt
            studies.fail_lost(self.study)
            known = self.study.get_trials(deepcopy=False)
            states = {each.state for each in known}
            if studies.asked(known) < trials or TrialState.WAITING in states:
                repeats = repeats + 1 if self._try_one(known, explore=repeats > 0) else 0
            elif TrialState.RUNNING in states:
                # The trial belongs to another worker, which will report it or count as lost.
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            else:
                return
        if repeats:
            _log.info("the space is exhausted: %d times in a row only known configurations were drawn", repeats)

    def _try_one(self, known: list[FrozenTrial], explore: bool) -> bool:
        """Run one trial; return True if its configuration was known already."""
        sampler = self.study.sampler
        assert isinstance(sampler, TrialSampler)
        sampler.fixed, sampler.random = self.propose(known), explore
        finished: list[FrozenTrial] = []
        self._running = None
        try:
            self.study.optimize(
                self._objective, n_trials=1, catch=(Exception,), callbacks=[lambda _, trial: finished.append(trial)]
            )
        except (KeyboardInterrupt, SystemExit):
            self._release()
            raise
        except Exception:
            if self._running is None or not self._was_declared_lost(self._running):
                raise
            return False
        if self._unwritable is not None:
            raise self._unwritable
        (trial,) = finished
        if trial.state == TrialState.FAIL and trial.user_attrs.get(_RETRY):
            studies.retry(self.study, trial)
        return studies.REPEATS in trial.user_attrs

    def _objective(self, trial: Trial) -> list[float]:
        self._running = trial.number
        if self._is_surplus(trial.number):
            raise _SurplusError(f"trial {trial.number}: another worker has asked for the last of {self._trials}")
        values = self.space.suggest(trial)
        if (same := self._same(trial)) is not None:
            for name, value in {**same.user_attrs, studies.REPEATS: same.number}.items():
                trial.set_user_attr(name, value)
            for name, value in same.constraints.items():
                trial.set_constraint(name, value)
            return list(same.values)
        try:
            outcome = self.evaluate(trial, values)
        except TrialPruned:
            raise
        except Exception as error:
            _log.warning("trial %d failed: %s", trial.number, error)
            self._unwritable = storage_error(error)
            trial.set_user_attr(_FAILURE, f"{type(error).__name__}: {error}")
            # An error that the user can correct would happen again.
            trial.set_user_attr(_RETRY, not isinstance(error, InputError))
            raise
        for name, value in self.goal.user_attrs(outcome).items():
            trial.set_user_attr(name, value)
        for name, value in self.goal.constraints(outcome).items():
            trial.set_constraint(name, value)
        return self.goal.values(outcome)

    def _is_surplus(self, number: int) -> bool:
        """Return True if others have asked for enough since this worker looked.

        Of workers that ask at once, the first one continues.
        """
        trials = self.study.get_trials(deepcopy=False)
        return studies.asked([trials[number]]) > 0 and studies.asked(trials[:number]) >= self._trials

    def _same(self, trial: Trial) -> FrozenTrial | None:
        """Return the first trial with values that has the same parameters."""
        return next((each for each in studies.complete(self.study) if each.params == trial.params), None)

    def _was_declared_lost(self, number: int) -> bool:
        """Return True if another worker marked a trial of this one as lost, after missing heartbeats."""
        if self.study.get_trials(deepcopy=False)[number].state != TrialState.FAIL:
            return False
        _log.warning("trial %d was declared lost meanwhile, and is retried", number)
        return True

    def _release(self) -> None:
        """Mark the interrupted trial as failed, unless Optuna has, and schedule it to be resumed."""
        if self._running is None:
            return
        trial = self.study.get_trials(deepcopy=False)[self._running]
        if trial.state == TrialState.RUNNING:
            self.study.tell(trial.number, state=TrialState.FAIL)
        studies.resume(self.study, trial)
