"""Register an ensemble, and log its version with all that is known of it."""

from pathlib import Path

from sensai.analysis.report.summary import summary_table
from sensai.config import RegisterConfig
from sensai.pipeline.context import Context
from sensai.pipeline.lineage import upstream_tags
from sensai.pipeline.stage import data_name
from sensai.registry.aliases import find
from sensai.registry.image_format import ImageFormat
from sensai.registry.versions import register_ensemble, tagged_metrics
from sensai.stages import retrain
from sensai.stages.evaluate import combining
from sensai.stages.prune import title as prune_title
from sensai.stages.register import description
from sensai.terminal import waiting
from sensai.tracking import tags
from sensai.tracking.artifact_names import VERSION


def execute(config: RegisterConfig, context: Context) -> None:
    """Register the ensemble and log its version."""
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
