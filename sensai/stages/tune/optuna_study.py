"""Open the Optuna study of `tune`, and work on it until it has its trials."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from optuna import Study
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.trial import FrozenTrial

from sensai.cluster.processes import first_interrupt_asks
from sensai.config import TuneConfig
from sensai.files import make_folder, storing
from sensai.locks import locked
from sensai.pipeline.session import Session
from sensai.stages.tune.trials import TRIAL_RUN, Trials
from sensai.tracking import Store
from sensai.tracking.database_tables import sqlite_path, sqlite_url
from sensai.tuning.goals import Goal
from sensai.tuning.halving import next_fixed
from sensai.tuning.logged import add_logged
from sensai.tuning.sampler import TrialSampler
from sensai.tuning.space import EPOCHS, Space
from sensai.tuning.studies import open_study
from sensai.tuning.worker import Worker

_log = logging.getLogger(__name__)


def search(
    config: TuneConfig,
    name: str,
    about: str,
    space: Space,
    session: Session,
    parent: str,
    upstream: Mapping[str, str],
) -> Study:
    """Work on a study until it has its trials; return it.

    Args:
        config: of tune.
        name: of the study.
        about: digest of what all its trials have in common.
        space: that is searched.
        session: its store is searched, and gets the new runs.
        parent: run that those of trials are nested below.
        upstream: stage -> run id, of the runs that all trials stand on.
    """
    goal = Goal(config.objective, config.limit, config.min_val_accuracy)
    with first_interrupt_asks() as interrupted:
        trials = Trials(config, goal, name, session, parent, upstream, interrupted.is_set)
        study = _study(trials, about, space)
        propose = partial(_proposed, study, space, config)
        with storing(_storage(session.store, config)):
            Worker(study, space, goal, trials, propose, interrupted.is_set).run(config.trials)
    return study


def _study(trials: Trials, about: str, space: Space) -> Study:
    """Return the study, which has been told of what is logged."""
    config, store = trials.config, trials.store
    # If two start at once, the second finds the study of the first.
    lock = make_folder(Path(config.work_dir) / "locks", "work_dir") / f"tune-{about}.lock"
    with locked(lock, f"opening the study {trials.study!r}"):
        study = open_study(
            _storage(store, config),
            trials.study,
            about,
            trials.goal.directions,
            sampler=TrialSampler(config.seed),
            pruner=_pruner(config),
            heartbeat=config.heartbeat,
            lost=partial(_close_lost, store),
        )
        if config.warm_start != "none":
            added = add_logged(study, space, trials.goal, trials.logged(space))
            _log.info("study %r: learnt of %d logged configurations", trials.study, added)
    return study


def _storage(store: Store, config: TuneConfig) -> str:
    """Return the URL of Optuna's storage; by default a SQLite file beside the tracking store's, or else in work_dir."""
    if config.storage:
        return config.storage
    path = sqlite_path(store.client.tracking_uri)
    folder = path.parent if path else make_folder(Path(config.work_dir), "work_dir").absolute()
    return sqlite_url(folder / "optuna.db")


def _proposed(study: Study, space: Space, config: TuneConfig, trials: list[FrozenTrial]) -> dict[str, Any]:
    """Return the next trial's fixed parameters: a whole configuration that gets more epochs, or a new one's few epochs."""
    if space.searches_epochs:
        return {}
    if config.mode == "constrained":
        return {EPOCHS: config.rungs[-1]}
    more_is_better = [direction.name == "MAXIMIZE" for direction in study.directions]
    return next_fixed(trials, more_is_better, config.rungs, config.eta)


def _pruner(config: TuneConfig) -> BasePruner:
    """Return the pruner of trainings that fall behind at a fidelity's epochs; Optuna prunes only single objectives."""
    if config.limit is None:
        return NopPruner()
    first = next((epochs for epochs in config.rungs[:-1] if epochs), 1)
    return SuccessiveHalvingPruner(min_resource=first, reduction_factor=config.eta)


def _close_lost(store: Store, trial: FrozenTrial) -> None:
    _log.warning("trial %d: its worker is gone; it is tried again, once", trial.number)
    if run_id := trial.user_attrs.get(TRIAL_RUN):
        store.close_lost(run_id, "its worker is gone")
