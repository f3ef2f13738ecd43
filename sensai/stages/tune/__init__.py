"""tune: Optuna over group, prune and retrain, from all that was logged. Every trial is a nested run. The study's run carries
trials, front, hypervolume over trials, importances and rank correlations of fidelities as CSV and figures; and best.json, the
cheapest within max_accuracy_drop of the base model, which register_best=true evaluates and registers.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from optuna import Study
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.trial import FrozenTrial

from sensai.cluster.processes import first_interrupt_asks
from sensai.config import ActivationsConfig, TuneConfig
from sensai.data.dataset import Dataset
from sensai.errors import InputError
from sensai.files import make_folder, storing
from sensai.locks import locked
from sensai.pipeline.lineage import lineage, upstream_tags
from sensai.pipeline.run_lifecycle import open_entry_run
from sensai.pipeline.session import Session
from sensai.pipeline.stage import data_name, data_tags, run_name
from sensai.registry.promotion import nominate
from sensai.stages import activations, evaluate, group, prune, register, retrain
from sensai.stages.evaluate import latencies
from sensai.stages.tune.search_space import space_of
from sensai.stages.tune.trials import TRIAL_RUN, Trials
from sensai.stages.tune.tuning_results import log_best, log_findings
from sensai.tracking import Run, Store, tags
from sensai.tracking.first_contact import sqlite_path, sqlite_url
from sensai.tuning.goals import Goal
from sensai.tuning.halving import next_fixed
from sensai.tuning.logged import add_logged
from sensai.tuning.sampler import TrialSampler
from sensai.tuning.space import EPOCHS, Space, Values
from sensai.tuning.studies import open_study
from sensai.tuning.worker import Worker

_log = logging.getLogger(__name__)


def run(config: TuneConfig) -> str:
    """Work on the study until it has its trials; return the id of the run that carries what it found.

    Raises:
        InputError: the user can mend it.
    """
    name = run_name(config, f"{config.objective} {config.mode}")
    with open_entry_run(config, name, __doc__) as (store, parent):
        session = Session(store)
        data = session.dataset(config)
        content, space = space_of(config, len(data.class_names))
        _check(config, data)
        about = _digest(config, content, session)
        parent.log_json(content, "space.json")
        parent.set_tags({tags.STUDY: _study_name(config, about), **data_tags(config, session)})
        # All trials stand on these activations.
        activations_run = activations.stage.ensure(_activations(config), session, parent.id)
        upstream = lineage(store, "activations", activations_run)
        parent.set_tags(upstream_tags(upstream))
        base_accuracy = store.metrics_of(upstream["baseline"])["val_accuracy"]
        study = _search(config, about, space, session, parent.id, upstream)
        choice = log_findings(study, config, base_accuracy, len(data.class_names), parent)
        chosen = log_best(choice, config, base_accuracy, store, parent)
        if config.register_best and chosen is not None:
            _register(config, chosen, session, parent)
    return parent.id


def _search(
    config: TuneConfig, about: str, space: Space, session: Session, parent: str, upstream: Mapping[str, str]
) -> Study:
    """Work on the study until it has its trials; return it."""
    goal = Goal(config.objective, config.limit, config.min_val_accuracy)
    with first_interrupt_asks() as interrupted:
        trials = Trials(config, goal, _study_name(config, about), session, parent, upstream, interrupted.is_set)
        study = _study(trials, about, space)
        propose = partial(_proposed, study, space, config)
        with storing(_storage(session.store, config)):
            Worker(study, space, goal, trials, propose, interrupted.is_set).run(config.trials)
    return study


def _register(config: TuneConfig, chosen: Values, session: Session, parent: Run) -> None:
    """Evaluate and register the chosen configuration, and nominate its version."""
    run_id = register.stage.ensure(config.chosen(chosen), session, parent.id)
    version = session.store.metrics_of(run_id)["version"]
    # A version that was registered before is not the newest, but it is what the study has chosen.
    nominate(session.store.client, config.model_name, int(version))
    parent.set_tags(upstream_tags({"register": run_id}))
    parent.log_metrics({"version": version})


def _study(trials: Trials, about: str, space: Space) -> Study:
    """Return the study, which has been told of what is logged."""
    config, store = trials.config, trials.store
    # Of two that start at once, the second finds what the first has made.
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


def _check(config: TuneConfig, data: Dataset) -> None:
    """Refuse data without the splits that are needed.

    Raises:
        InputError: there is no split to choose by, or none to evaluate what is to be registered.
    """
    if data.val is None:
        raise InputError(f"dataset={config.dataset!r}: has no validation split, by which trials are judged")
    if config.register_best:
        evaluate.check(config, data)
        register.check(config, data)


def _study_name(config: TuneConfig, about: str) -> str:
    return config.study or f"{data_name(config)} {Path(config.arch).name} {about[:12]}"


def _activations(config: TuneConfig) -> ActivationsConfig:
    """Return the configuration of the pass that all criteria without a backward pass share."""
    shared = config.model_copy(update={"criterion": "apoz"})
    return ActivationsConfig.model_validate(shared.upstream(ActivationsConfig).model_dump())


def _digest(config: TuneConfig, content: Mapping[str, Any], session: Session) -> str:
    """Return the digest of what all trials have in common, and of what they are judged by."""
    versions = [[stage.name, stage.version] for stage in (group.stage, prune.stage, retrain.stage)]
    fixed = {name: value for name, value in config.shared_parameters().items() if name not in content}
    judged = [config.objective, config.limit, config.min_val_accuracy]
    if config.objective == "latency":
        judged.append(latencies.VERSION)
    before = activations.stage.fingerprint(_activations(config), session)
    described = [before, versions, fixed, content, judged]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


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
    """Return what ends trainings that are not among the best at a fidelity's epochs; Optuna prunes by a single value only."""
    if config.limit is None:
        return NopPruner()
    first = next((epochs for epochs in config.rungs[:-1] if epochs), 1)
    return SuccessiveHalvingPruner(min_resource=first, reduction_factor=config.eta)


def _close_lost(store: Store, trial: FrozenTrial) -> None:
    _log.warning("trial %d: its worker is gone; it is tried again, once", trial.number)
    if run_id := trial.user_attrs.get(TRIAL_RUN):
        store.close_lost(run_id, "its worker is gone")
