"""tune: Optuna over group, prune and retrain, from all that was logged. Every trial is a nested run; the study's run carries
trials.csv, the front, hypervolume over trials, importances, rank correlations of fidelities (all as CSV), their figures, and
best.json, the cheapest within max_accuracy_drop of the base model, which register_best=true evaluates and registers.
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
from sensai.errors import InputError
from sensai.files import make_folder, storing
from sensai.locks import locked
from sensai.pipeline.context import dataset_of
from sensai.pipeline.run_lifecycle import opened
from sensai.pipeline.stage import data_name, data_tags, run_name, upstream_of
from sensai.registry.promotion import nominate
from sensai.stages import activations, evaluate, group, prune, register, retrain
from sensai.stages.evaluate import latencies
from sensai.stages.tune.search_space import space_of
from sensai.stages.tune.trials import TRIAL_RUN, Trials
from sensai.stages.tune.tuning_results import log_best, log_findings
from sensai.tracking import Run, Store, tags
from sensai.tracking.artifact_names import SPACE
from sensai.tracking.first_contact import sqlite_path, sqlite_url
from sensai.tuning.goals import Goal
from sensai.tuning.halving import next_fixed
from sensai.tuning.logged import add_logged
from sensai.tuning.sampler import TrialSampler
from sensai.tuning.space import EPOCHS, Space
from sensai.tuning.studies import open_study
from sensai.tuning.worker import Worker

_log = logging.getLogger(__name__)


def run(config: TuneConfig) -> str:
    """Work on the study until it has its trials; returns the id of the run that carries what it found.

    Raises:
        InputError: what the user can mend.
    """
    with opened(config, run_name(config, f"{config.objective} {config.mode}"), __doc__) as (store, parent):
        _tune(config, store, parent)
    return parent.id


def _tune(config: TuneConfig, store: Store, parent: Run) -> None:
    classes = len(dataset_of(config).class_names)
    content, space = space_of(config, classes)
    _check(config)
    about = _digest(config, content)
    name = config.study or f"{data_name(config)} {Path(config.arch).name} {about[:12]}"
    _describe(config, name, content, parent)
    goal = Goal(config.objective, config.limit, config.min_val_accuracy)
    # What all trials stand on.
    before = activations.stage.ensure(_activations(config), store, parent.id)
    upstream = {**upstream_of(store.tags_of(before)), "activations": before}
    parent.set_tags({tags.UPSTREAM + stage: run_id for stage, run_id in upstream.items()})
    base_accuracy = store.metrics_of(upstream["baseline"])["val_accuracy"]

    with first_interrupt_asks() as interrupted:
        trials = Trials(config, goal, name, store, parent.id, upstream, interrupted.is_set)
        study = _study(trials, about, space)
        propose = partial(_proposed, study, space, config)
        with storing(config.storage or _beside(store, config)):
            Worker(study, space, goal, trials, propose, interrupted.is_set).run(config.trials)
    choice = log_findings(study, config, base_accuracy, classes, parent)
    chosen = log_best(choice, config, base_accuracy, store, parent)
    if config.register_best and chosen is not None:
        run_id = register.stage.ensure(config.chosen(chosen), store, parent.id)
        version = store.metrics_of(run_id)["version"]
        # One that was registered before is not the newest, but it is what the study has chosen.
        nominate(store.client, config.model_name, int(version))
        parent.set_tags({tags.UPSTREAM + "register": run_id})
        parent.log_metrics({"version": version})


def _study(trials: Trials, about: str, space: Space) -> Study:
    """The study, which has been told of what is logged."""
    config, store = trials.config, trials.store
    # Of two that start at once, the second finds what the first has made.
    lock = make_folder(Path(config.work_dir) / "locks", "work_dir") / f"tune-{about}.lock"
    with locked(lock, f"opening the study {trials.study!r}"):
        study = open_study(
            config.storage or _beside(store, config),
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


def _check(config: TuneConfig) -> None:
    """Refuse data without the splits that are needed.

    Raises:
        InputError: there is none to choose by, or none to evaluate on what is to be registered.
    """
    if dataset_of(config).val is None:
        raise InputError(f"dataset={config.dataset!r}: has no validation split, by which trials are judged")
    if config.register_best:
        evaluate.check(config)
        register.check(config)


def _describe(config: TuneConfig, name: str, content: Mapping[str, Any], parent: Run) -> None:
    parent.log_json(content, SPACE)
    parent.set_tags({tags.STUDY: name, **data_tags(config)})


def _activations(config: TuneConfig) -> ActivationsConfig:
    """Of the pass that all criteria without a backward pass share."""
    shared = config.model_copy(update={"criterion": "apoz"})
    return ActivationsConfig.model_validate(shared.upstream(ActivationsConfig).model_dump())


def _digest(config: TuneConfig, content: Mapping[str, Any]) -> str:
    """Digest of what all trials have in common, and of what they are judged by."""
    versions = [[stage.name, stage.version] for stage in (group.stage, prune.stage, retrain.stage)]
    fixed = {name: value for name, value in config.shared_parameters().items() if name not in content}
    judged = [config.objective, config.limit, config.min_val_accuracy]
    if config.objective == "latency":
        judged.append(latencies.VERSION)
    described = [activations.stage.fingerprint(_activations(config)), versions, fixed, content, judged]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _beside(store: Store, config: TuneConfig) -> str:
    """A SQLite file beside the tracking store's, or in work_dir where that is no file."""
    path = sqlite_path(store.client.tracking_uri)
    folder = path.parent if path else make_folder(Path(config.work_dir), "work_dir").absolute()
    return sqlite_url(folder / "optuna.db")


def _proposed(study: Study, space: Space, config: TuneConfig, trials: list[FrozenTrial]) -> dict[str, Any]:
    """What the next trial has: all of a configuration that gets more epochs, or a new one's few."""
    if space.searches_epochs:
        return {}
    if config.mode == "constrained":
        return {EPOCHS: config.rungs[-1]}
    more_is_better = [direction.name == "MAXIMIZE" for direction in study.directions]
    return next_fixed(trials, more_is_better, config.rungs, config.eta)


def _pruner(config: TuneConfig) -> BasePruner:
    """Ends trainings that are not among the best at the epochs of the fidelities; Optuna prunes by a single value only."""
    if config.limit is None:
        return NopPruner()
    first = next((epochs for epochs in config.rungs[:-1] if epochs), 1)
    return SuccessiveHalvingPruner(min_resource=first, reduction_factor=config.eta)


def _close_lost(store: Store, trial: FrozenTrial) -> None:
    _log.warning("trial %d: its worker is gone; it is tried again, once", trial.number)
    if run_id := trial.user_attrs.get(TRIAL_RUN):
        store.close_lost(run_id, "its worker is gone")
