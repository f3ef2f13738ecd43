"""tune: Search ratio, groups and training with Optuna, from all that was logged.

Every trial is a nested run; the study's run carries trials.csv, the front, hypervolume over trials, importances, rank
correlations of fidelities (all as CSV), their figures, and best.json, the cheapest within max_accuracy_drop of the base
model, which register_best=true evaluates and registers.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sensai.config import ActivationsConfig, PromoteConfig, TuneConfig
from sensai.config.arguments import as_command
from sensai.data.dataset import Dataset
from sensai.errors import InputError
from sensai.pipeline.closing import Findings, sentence
from sensai.pipeline.lineage import lineage, upstream_tags
from sensai.pipeline.run_lifecycle import open_entry_run
from sensai.pipeline.session import Session
from sensai.pipeline.stage import data_name, data_tags, log_data, run_name
from sensai.registry.promotion import nominate
from sensai.stages import activations, evaluate, group, prune, register, retrain
from sensai.stages.evaluate import measured_host
from sensai.stages.tune.optuna_study import search
from sensai.stages.tune.search_space import space_of
from sensai.stages.tune.tuning_results import log_best, log_findings
from sensai.tracking import Run, Store, tags
from sensai.tracking.artifact_names import SPACE
from sensai.tracking.metric_names import CALIBRATED_VAL_ACCURACY
from sensai.tuning.space import Values


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
        parent.log_json(content, SPACE)
        study_name = config.study or f"{data_name(config)} {Path(config.arch).name} {about[:12]}"
        parent.set_tags({tags.STUDY: study_name, **data_tags(config, session)})
        log_data(parent, config, session, ("train", "val"))
        # All trials stand on these activations.
        activations_run = activations.stage.ensure(_activations(config), session, parent.id)
        upstream = lineage(store, "activations", activations_run)
        parent.set_tags(upstream_tags(upstream))
        base_accuracy = store.metrics_of(upstream["baseline"])["val_accuracy"]
        study = search(config, study_name, about, space, session, parent.id, upstream)
        choice = log_findings(study, config, base_accuracy, len(data.class_names), parent)
        chosen = log_best(choice, config, base_accuracy, store, parent)
        if config.register_best and chosen is not None:
            _register(config, chosen, session, parent)
    return parent.id


def found(store: Store, run_id: str) -> Findings:
    """Return what the study recommends."""
    run = store.run(run_id)
    fact = sentence(
        run.data.metrics,
        "{trials:count} results",
        "recommended: validation accuracy {best_calibrated_val_accuracy:accuracy} (base model {base_val_accuracy:accuracy})",
        "{best_flops_speedup:.3g}x fewer FLOPs in the largest member",
        "registered as version {version:count}",
    )
    following = f"sensai report --from_run {run_id}"
    if "version" in run.data.metrics:
        model_name = json.loads(run.data.tags[tags.CONFIG])["model_name"]
        following = as_command("promote", PromoteConfig(model_name=model_name))
    return Findings([fact], following)


def _register(config: TuneConfig, chosen: Values, session: Session, parent: Run) -> None:
    """Evaluate and register the chosen configuration, and nominate its version."""
    run_id = register.stage.ensure(config.chosen(chosen), session, parent.id)
    version = session.store.metrics_of(run_id)["version"]
    # The chosen version may have been registered before, so it need not be the newest.
    nominate(session.store.client, config.model_name, int(version))
    parent.set_tags(upstream_tags({"register": run_id}))
    parent.log_metrics({"version": version})


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


def _activations(config: TuneConfig) -> ActivationsConfig:
    """Return the configuration of the pass that all criteria without a backward pass share."""
    shared = config.model_copy(update={"criterion": "apoz"})
    return ActivationsConfig.model_validate(shared.upstream(ActivationsConfig).model_dump())


def _digest(config: TuneConfig, content: Mapping[str, Any], session: Session) -> str:
    """Return the digest of what all trials have in common, and of what they are judged by."""
    versions = [[stage.name, stage.version] for stage in (group.stage, prune.stage, retrain.stage)]
    fixed = {name: value for name, value in config.shared_parameters().items() if name not in content}
    # Studies of earlier versions ranked by raw accuracy, and are no part of this one.
    judged = [CALIBRATED_VAL_ACCURACY, config.objective, config.limit, config.min_val_accuracy]
    if config.objective == "latency":
        judged.append(measured_host.VERSION)
    before = activations.stage.fingerprint(_activations(config), session)
    described = [before, versions, fixed, content, judged]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
