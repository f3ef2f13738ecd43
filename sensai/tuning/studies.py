"""The study: created or resumed in its storage, with the states of its trials."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import optuna
import sqlalchemy
from optuna import Study
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.pruners import BasePruner
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from sensai.errors import InputError
from sensai.files import storage_error
from sensai.tracking.database_tables import Tables, prepare, without_password
from sensai.tuning.goals import Direction
from sensai.tuning.sampler import TrialSampler

# Attributes of a trial: it was logged before the study asked for it; an earlier trial has the same result; it resumes an
# interrupted one.
LOGGED = "logged"
REPEATS = "repeats"
RESUMES = "resumes"
# Attribute of the study: a digest of what its trials have in common.
_ABOUT = "about"
# A worker counts as lost after so many missed heartbeats.
_MISSED = 3
_RETRIES = 1
_LOCKED_SECONDS = 60
# A trial samples its parameters at once. A trial that has none after so many seconds never began.
_SECONDS_TO_BEGIN = 60


def open_study(
    storage: str,
    name: str,
    about: str,
    directions: dict[str, Direction],
    *,
    sampler: TrialSampler,
    pruner: BasePruner,
    heartbeat: int,
    lost: Callable[[FrozenTrial], None],
) -> Study:
    """Return the study of a name; create it if the storage does not have it.

    Args:
        storage: URL of a database; empty: in memory, only for this process.
        name: of the study.
        about: digest of what its trials have in common.
        directions: name of each value -> minimize or maximize.
        sampler: samples for this worker.
        pruner: ends trials of a single value early.
        heartbeat: seconds between heartbeats of a trial.
        lost: called with a trial whose worker is lost; it will be retried once.

    Raises:
        InputError: the storage does not answer, or has another study of that name.
    """

    def on_stale(study: Study, trial: FrozenTrial) -> None:
        lost(trial)
        retry(study, trial)

    with _quiet():
        try:
            prepare(storage, _TABLES)
            study = optuna.create_study(
                storage=_database(storage, heartbeat, on_stale) if storage else None,
                study_name=name,
                directions=list(directions.values()),
                sampler=sampler,
                pruner=pruner,
                load_if_exists=True,
            )
            study.set_metric_names(list(directions))
        # SQLAlchemy and drivers raise the last two for ports that are not numbers, and for unknown options.
        except (SQLAlchemyError, StorageInternalError, ImportError, RuntimeError, ValueError, TypeError) as error:
            cause = error.__cause__ if isinstance(error, StorageInternalError) else None
            reason = " ".join(str(cause or error).split())
            raise storage_error(error, database=storage) or InputError(
                f"storage={without_password(storage)!r}: {reason}"
            ) from error
    if study.user_attrs.get(_ABOUT, about) != about:
        raise InputError(
            f"study={name!r}: stands in the storage with another data set, base model, space, objective, measure of accuracy "
            "or other parameters; give it another name, or none"
        )
    study.set_user_attr(_ABOUT, about)
    return study


def _database(storage: str, heartbeat: int, on_stale: Callable[[Study, FrozenTrial], None]) -> RDBStorage:
    # Workers wait for each other, and a server may have closed a connection during a long trial.
    patient: dict[str, Any] = {"connect_args": {"timeout": _LOCKED_SECONDS}} if storage.startswith("sqlite") else {}
    return RDBStorage(
        storage,
        engine_kwargs={"pool_pre_ping": True, **patient},
        heartbeat_interval=heartbeat,
        grace_period=_MISSED * heartbeat,
        heartbeat_stale_trial_callback=on_stale,
    )


def _are_finished(connection: Connection) -> bool:
    # Optuna writes the version last.
    return connection.execute(sqlalchemy.text("SELECT 1 FROM alembic_version")).first() is not None


def _make(url: str) -> None:
    RDBStorage(url).engine.dispose()


_TABLES = Tables(
    "Optuna", lambda: {"studies", "trials", "version_info", "alembic_version"}, _are_finished, _make, resumes=True
)


def retry(study: Study, trial: FrozenTrial) -> None:
    """Schedule a failed or lost trial again, unless it has been retried."""
    with _quiet():
        RetryHeartbeatStaleTrialCallback(max_retry=_RETRIES)(study, trial)


def resume(study: Study, trial: FrozenTrial) -> None:
    """Schedule an interrupted trial for the next worker that asks; that does not count as a retry."""
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={RESUMES: trial.number},
            # As Optuna's own retry does: they hold which trials this one tries again.
            system_attrs=dict(trial.system_attrs),
        )
    )


def fail_lost(study: Study) -> None:
    """Mark trials of lost workers as failed; each will be retried once."""
    with _quiet():
        optuna.storages.fail_stale_trials(study)
    # Optuna overlooks trials that never sent a heartbeat.
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not trial.params and trial.datetime_start and _seconds_since(trial.datetime_start) > _SECONDS_TO_BEGIN:
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def _seconds_since(moment: datetime) -> float:
    # Optuna writes the local time of the worker.
    return (datetime.now() - moment).total_seconds()


def asked(trials: Iterable[FrozenTrial]) -> int:
    """Return the number of configurations that the study has asked for.

    Logged, repeated, retried and resumed trials, and trials that never began, do not count.
    """
    return sum(_counts(trial) for trial in trials)


def _counts(trial: FrozenTrial) -> bool:
    begun = bool(trial.params) or trial.state != TrialState.FAIL
    return begun and not {LOGGED, REPEATS, RESUMES} & trial.user_attrs.keys() and not history(trial)


def history(trial: FrozenTrial) -> list[int]:
    """Return the numbers of the trials that this one retries."""
    with _quiet():
        return RetryHeartbeatStaleTrialCallback.retry_history(trial)


def complete(study: Study) -> list[FrozenTrial]:
    """Return the trials with values."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress Optuna's warnings that heartbeats and their callbacks are experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
