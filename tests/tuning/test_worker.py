"""Workers of a study: repeated requests, retries, and several processes in one study."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from optuna import Trial
from optuna.trial import FrozenTrial, TrialState

from sensai.errors import InputError
from sensai.tuning import studies
from sensai.tuning.goals import Goal, Outcome
from sensai.tuning.halving import configuration, next_fixed
from sensai.tuning.logged import LoggedRun, add_logged
from sensai.tuning.space import EPOCHS
from tests.conftest import ROOT
from tests.helpers import toy_study

SINGLE = {"ratio": 0.5, "method": "singletons", EPOCHS: 0}


def told(trials: list[FrozenTrial]) -> list[tuple]:
    return [(each.number, each.params, each.values) for each in trials if each.state == TrialState.COMPLETE]


def test_a_study_that_goes_on_does_what_it_would_have_done(sqlite: str) -> None:
    for trials in (5, 5, 13):
        toy_study.worker(toy_study.study(sqlite), rungs=(0, 2), eta=3).run(trials)
    at_once = toy_study.study()
    toy_study.worker(at_once, rungs=(0, 2), eta=3).run(13)
    assert told(toy_study.study(sqlite).trials) == told(at_once.trials)
    assert len(at_once.trials) == 13


def test_another_seed_draws_others() -> None:
    one, other = toy_study.study(), toy_study.study(seed=1)
    for study in (one, other):
        toy_study.worker(study).run(2)
    assert [trial.params for trial in one.trials] != [trial.params for trial in other.trials]


def test_the_best_of_a_rung_get_more_epochs() -> None:
    study = toy_study.study()
    toy_study.worker(study, rungs=(0, 2, 8), eta=3).run(20)
    by_epochs = {epochs: [t for t in study.trials if t.params[EPOCHS] == epochs] for epochs in (0, 2, 8)}
    # This is a lower bound: one of the best few may not be one of the best of all.
    assert len(by_epochs[0]) > len(by_epochs[2]) >= len(by_epochs[0]) // 3
    assert len(by_epochs[2]) > len(by_epochs[8]) >= len(by_epochs[2]) // 3 > 0
    cheap = [configuration(trial).items() for trial in by_epochs[0]]
    assert all(any(own <= configuration(trial).items() for own in cheap) for trial in by_epochs[2])


def test_what_failed_or_runs_with_more_epochs_is_not_promoted_again() -> None:
    study = toy_study.study()
    toy_study.worker(study).run(3)
    fixed = next_fixed(study.trials, [True, False], [0, 2], 3)
    assert fixed[EPOCHS] == 2
    study.enqueue_trial(fixed)
    toy_study.space().suggest(trial := study.ask())
    study.tell(trial, state=TrialState.FAIL)
    assert next_fixed(study.trials, [True, False], [0, 2], 3) == {EPOCHS: 0}


def test_what_was_logged_is_told_and_not_asked_for() -> None:
    study, asked = toy_study.study(), []
    space = toy_study.make_space({"method": ["singletons"], "ratio": [0.3, 0.5]}, toy_study.ALLOWED, "two")
    logged = [
        LoggedRun(values, toy_study.outcome(values, f"run {ratio}"))
        for ratio in (0.5, 0.7)
        for values in [{**SINGLE, "ratio": ratio, "other": 1}]
    ]
    assert add_logged(study, space, Goal("flops_max"), logged) == 1
    assert add_logged(study, space, Goal("flops_max"), logged) == 0

    def evaluate(trial: Trial, values: dict) -> Outcome:
        asked.append(values)
        return toy_study.evaluate(trial, values)

    own = toy_study.worker(study, evaluate)
    own.space = space
    own.run(5)
    # Only the other of the two configurations is left, and then none.
    assert asked == [{**SINGLE, "ratio": 0.3}]
    assert study.trials[0].values == [toy_study.outcome(SINGLE, "").accuracy, 0.5]


def test_no_more_is_asked_for_where_another_worker_was_first() -> None:
    study, tried = toy_study.study(), []

    def evaluate(trial: Trial, values: dict) -> Outcome:
        tried.append(trial.number)
        return toy_study.evaluate(trial, values)

    own = toy_study.worker(study, evaluate)
    propose = own.propose

    def after_another_worker(known: list[FrozenTrial]) -> dict:
        other = study.ask()
        toy_study.space().suggest(other)
        study.tell(other, [0.5, 0.5])
        return propose(known)

    own.propose = after_another_worker
    own.run(3)
    assert tried == [1]
    assert studies.asked(study.trials) == 3
    assert [trial.state for trial in study.trials][-1] == TrialState.FAIL


def test_with_no_trials_nothing_is_tried() -> None:
    study = toy_study.study()
    study.enqueue_trial(SINGLE)
    toy_study.worker(study).run(0)
    assert [trial.state for trial in study.trials] == [TrialState.WAITING]


@pytest.mark.parametrize(("error", "tries"), [(RuntimeError("broken"), 2), (InputError("unreachable"), 1)])
def test_a_failure_is_retried_once_unless_it_would_be_the_same_again(error: Exception, tries: int) -> None:
    study = toy_study.study()

    def evaluate(trial: Trial, values: dict) -> Outcome:
        if configuration(trial) == configuration(study.trials[0]):
            raise error
        return toy_study.evaluate(trial, values)

    toy_study.worker(study, evaluate).run(2)
    failed = [trial for trial in study.trials if trial.state == TrialState.FAIL]
    assert len(failed) == tries
    assert {trial.user_attrs["failure"] for trial in failed} == {f"{type(error).__name__}: {error}"}
    # A retry does not count as another configuration.
    assert len(study.trials) == tries + 1
    assert studies.asked(study.trials) == 2


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_what_is_interrupted_is_gone_on_with(interrupt: type[BaseException]) -> None:
    study = toy_study.study()

    def evaluate(trial: Trial, values: dict) -> Outcome:
        if trial.number == 1:
            raise interrupt
        return toy_study.evaluate(trial, values)

    with pytest.raises(interrupt):
        toy_study.worker(study, evaluate).run(3)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.WAITING]
    toy_study.worker(study).run(2)
    assert study.trials[2].params == study.trials[1].params
    assert study.trials[2].state == TrialState.COMPLETE
    assert len(study.trials) == 3


def test_a_trial_that_was_taken_for_lost_is_left_to_others() -> None:
    study = toy_study.study()

    def evaluate(trial: Trial, values: dict) -> Outcome:
        if trial.number == 0:
            # Another worker marks it so after missing heartbeats.
            study.tell(trial.number, state=TrialState.FAIL)
            studies.retry(study, study.trials[0])
        return toy_study.evaluate(trial, values)

    toy_study.worker(study, evaluate).run(2)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert study.trials[1].params == study.trials[0].params


def test_a_name_stands_for_one_thing(sqlite: str) -> None:
    toy_study.study(sqlite)
    with pytest.raises(InputError, match="study='toy': stands in the storage with another data set"):
        toy_study.study(sqlite, about="something else")


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ("postgresql+psycopg://me:secret@127.0.0.1:1/studies", r"storage='postgresql\+psycopg://me:\*\*\*@127.0.0.1:1/studies'"),
        ("sqlite:////nowhere/at/all.db", "storage='sqlite:////nowhere/at/all.db'"),
        ("nothing", "storage='nothing'"),
    ],
)  # fmt: skip
def test_a_storage_that_does_not_answer(storage: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        toy_study.study(storage)
    assert "secret" not in str(refused.value)


@pytest.mark.processes
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.long)])
def test_a_killed_workers_trial_is_tried_again_once_by_another(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    storage = request.getfixturevalue(kind)
    with started(storage, "5", str(tmp_path)) as first:
        wait_for(tmp_path / "trial_0", first)
        os.kill(first.pid, signal.SIGKILL)
    (tmp_path / "go").touch()
    with started(storage, "5", str(tmp_path)) as second:
        lost: list[int] = []
        study = toy_study.study(storage, lost=lambda trial: lost.append(trial.number))
        toy_study.worker(study).run(5)
        assert second.wait(20) == 0
    trials = study.trials
    assert trials[0].state == TrialState.FAIL
    again = [trial for trial in trials if studies.history(trial) == [0]]
    assert [trial.params for trial in again] == [trials[0].params]
    # If both ask for the last one, one of the trials ends before it has sampled anything.
    assert {trial.state for trial in trials[1:] if trial.params} == {TrialState.COMPLETE}
    assert studies.asked(trials) == 5
    # They started in the same state, but did not sample the same.
    drawn = [tuple(trial.params.items()) for trial in trials if trial.params and trial not in again]
    assert len(set(drawn)) == len(drawn)


def test_a_trial_whose_worker_died_before_it_began_holds_nobody_up(
    sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = toy_study.study(sqlite)
    study.ask()
    monkeypatch.setattr(studies, "_SECONDS_TO_BEGIN", 0)
    toy_study.worker(study).run(2)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]


def started(*arguments: str) -> subprocess.Popen[bytes]:
    program = [sys.executable, str(ROOT / "tests" / "helpers" / "toy_study.py"), *arguments]
    return subprocess.Popen(program, env={**os.environ, "PYTHONPATH": str(ROOT)})


def wait_for(file: Path, process: subprocess.Popen[bytes]) -> None:
    while not file.exists():
        assert process.poll() is None
        time.sleep(0.02)


def test_the_study_of_one_value_has_one_direction() -> None:
    limited = Goal("flops_max", limit=0.4)
    study = toy_study.study(goal=limited)
    assert [each.name for each in study.directions] == ["MAXIMIZE"]


@pytest.mark.processes
@pytest.mark.parametrize(
    "storage", ["postgresql://host:99999999x/db", "sqlite:///x.db?timeout=abc", "nothing", "nope://x"]
)
def test_storages_that_are_none(storage: str) -> None:
    with pytest.raises(InputError, match="storage="):
        toy_study.study(storage)
