"""register: Register the ensemble as a version in the model registry.

Logs the model (pyfunc, signature, input example) with the metrics of its evaluation, the version, and all that is known of it
(version.json).
"""

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from mlflow.entities import Run as StoredRun

from sensai.analysis.report.summary import summary_table
from sensai.config import MainConfig, PromoteConfig, RegisterConfig, TuneConfig
from sensai.config.arguments import as_command
from sensai.data.dataset import Dataset
from sensai.errors import InputError
from sensai.pipeline.closing import Findings, sentence
from sensai.pipeline.context import Context
from sensai.pipeline.lineage import upstream_tags
from sensai.pipeline.stage import Stage, data_name
from sensai.registry.aliases import CANDIDATE
from sensai.registry.image_format import ImageFormat
from sensai.registry.promotion import find
from sensai.registry.pyfunc_model import REJECTED
from sensai.registry.versions import described, register_ensemble, tagged_metrics
from sensai.stages import evaluate, retrain
from sensai.stages.evaluate import combining
from sensai.stages.prune import title as prune_title
from sensai.terminal import waiting
from sensai.tracking import Store, tags
from sensai.tracking.artifact_names import VERSION


def _execute(config: RegisterConfig, context: Context) -> None:
    train = context.data.train
    store, evaluate_run = context.store, context.upstream["evaluate"]
    ensemble = retrain.load(store, context.upstream["retrain"])
    calibration = combining.load(store, evaluate_run)
    example = train.images[train.rows[:1]].transpose(0, 2, 3, 1)
    metrics = store.metrics_of(evaluate_run)
    version_tags = {
        "dataset": data_name(config),
        "arch": Path(config.arch).name,
        "pruning": prune_title(config),
        "members": str(len(ensemble.members)),
        **tagged_metrics(metrics),
        # `promote` finds the measurements by this one.
        **upstream_tags({"evaluate": evaluate_run}),
    }
    with waiting("exports the members, and checks that their files answer as in memory"):
        version = register_ensemble(
            store.client,
            context.run.id,
            ensemble,
            calibration,
            ImageFormat(config.image_dtype, config.image_layout),
            example,
            config.model_name,
            version_tags,
            description(config, metrics, summary_table(metrics), store.tags_of(evaluate_run).get(tags.VERDICT, "")),
        )
    content = {"config": config.model_dump(mode="json"), "upstream": dict(context.upstream), "metrics": metrics}
    context.run.log_json(content, VERSION)
    # The UI compares versions by the metrics of their logged models, which are their sources: models:/<model id>.
    _, _, model_id = (find(store.client, config.model_name, version).source or "").rpartition("/")
    first = {name: metrics[name] for name in tags.VERSION_METRICS if name in metrics}
    context.run.log_metrics(first | metrics, model_id=model_id)
    context.run.log_metrics({"version": version})


def _is_current(config: RegisterConfig, store: Store, run: StoredRun) -> bool:
    """Return True where the registry still has the run's version: a model that is made anew numbers its versions anew."""
    try:
        version = find(store.client, config.model_name, int(run.data.metrics["version"]))
    except InputError:
        return False
    return version.run_id == run.info.run_id


def check(_config: RegisterConfig | MainConfig | TuneConfig, data: Dataset) -> None:
    """Refuse a class that would be taken for the answer "none of them", before anything is trained.

    Raises:
        InputError: there is such a class.
    """
    if REJECTED in data.class_names:
        raise InputError(f"dataset={data.name!r}: a class is called {REJECTED!r}, as is what an ensemble rejects")


def description(
    config: RegisterConfig | MainConfig, metrics: Mapping[str, float], networks: pd.DataFrame, verdict: str
) -> str:
    """Return the description of a version as Markdown: its title, what each network takes, and the verdict.

    Args:
        config: of the ensemble.
        metrics: of its evaluation.
        networks: base model, ensemble and others side by side, as `summary_table` gives them.
        verdict: its lines, as `Verdict` gives them.
    """
    members = f"{metrics['members']:.0f} members" if "members" in metrics else "Members"
    return described(f"{members} of `{config.arch}` on `{config.dataset}`, {prune_title(config)}", networks, verdict)


def found(store: Store, run_id: str) -> Findings:
    """Return which version a run has registered."""
    run = store.run(run_id)
    model_name = json.loads(run.data.tags[tags.CONFIG])["model_name"]
    fact = sentence(run.data.metrics, "registered models:/" + model_name + "/{version:count}, alias " + CANDIDATE)
    return Findings([fact], as_command("promote", PromoteConfig(model_name=model_name)))


stage = Stage(
    version=6,
    config=RegisterConfig,
    previous=evaluate.stage,
    execute=_execute,
    title=lambda config: config.model_name,
    found=found,
    is_current=_is_current,
    check=check,
)
run = stage.run
